# Here-documents and here-strings, small and larger than a pipe holds.
name=world
cat <<END
hello $name, $((1 + 1)), $(echo command)
END
cat <<'END'
no $name here
END
cat <<-END
	tabs are stripped
	END
read -r line <<< "a here-string"; echo "$line"
big=$(head -c 200000 /dev/zero | tr '\0' 'x')
wc -c <<END
$big
END
cat <<ONE - <<TWO
never seen
ONE
only the last counts
TWO
while read -r a b; do echo "$b $a"; done <<END
1 one
2 two
END
bash -s argument <<'END'
echo "a script from stdin with $1"
END
