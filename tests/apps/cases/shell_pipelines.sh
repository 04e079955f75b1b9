# Pipelines, status of their parts, subshells, expansion, process substitution.
set -u
seq 1 1000 | grep 7 | sort -rn | head -5 | tr '\n' ' '; echo
printf '%s\n' b a c | sort | paste -sd, -
echo "one two three" | { read -r first rest; echo "$first|$rest"; }
false | true; echo "status ${PIPESTATUS[0]} ${PIPESTATUS[1]}"
set -o pipefail; false | true; echo "pipefail $?"; set +o pipefail
yes | head -n 100000 | wc -l
(exit 7); echo "subshell $?"
diff <(seq 1 5) <(seq 2 6); echo "diff $?"
tee >(wc -c > count) < <(head -c 100000 /dev/zero) | md5sum; while [ ! -s count ]; do sleep 0.01; done; tr -d ' ' < count
x=$(echo nested $(echo deeper $(echo deepest))); echo "$x"
for i in {1..20}; do echo $((i * i)); done | awk '{ s += $1 } END { print s }'
echo text > out; cat < out >> out2; cat out2; wc -c < out2
exec 5<> both; echo through >&5; cat both; exec 5>&-
cat nothing 2>&1 1>/dev/null | sed 's/^/E: /'
ls /no/such/dir 2>/dev/null || echo "ls failed with $?"
echo {a,b}{1,2} ~root "${HOME:+home}" "$((2 ** 10))" "${x/nested/replaced}" "${#x}"
time_out=$( { time true; } 2>&1 | grep -c real ); echo "time $time_out"
