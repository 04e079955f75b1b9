# grep, sed and awk.
seq 1 2000 | sed 's/$/ the quick brown fox/' > text
grep -c fox text; grep -n '^19.. ' text | head -3; grep -E '(11|22)\b' text | wc -l; grep -q nothing text; echo $?
grep -rl quick . | sort; grep -o 'q[a-z]*' text | sort | uniq -c | awk '{ print $1, $2 }'; grep -v 1 text | wc -l; grep -A1 -B1 '^500 ' text
sed -n '5,7p' text; sed -e 's/quick/slow/2' -e 's/\(fox\)/[\1]/g' text | tail -1; sed -i.bak '1d;$d' text; wc -l < text; wc -l < text.bak
sed '/^1[0-9] /!d; s/ .*//' text.bak | tr '\n' ' '; echo
awk '{ s += $1; n[$1 % 7]++ } END { print s; for (i = 0; i < 7; i++) print i, n[i] }' text
awk -F: 'BEGIN { OFS = "-" } { $1 = $1; print NR, NF }' /etc/passwd | head -1
awk 'BEGIN { while (("echo a b c" | getline line) > 0) print length(line), toupper(line); system("echo from system"); printf "%.3f\n", atan2(0, -1) }'
tr a-z A-Z < text | cut -c1-12 | tail -2; join <(seq 5 | sed 's/$/ x/') <(seq 3 7 | sed 's/$/ y/'); column -t <<< $'a b\nccc d' 2>/dev/null || true
diff -u text text.bak | sed 1,2d | head; cmp text text.bak | cut -d, -f2
