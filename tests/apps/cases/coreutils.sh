# What shell scripts do to files all day.
set -e
umask 022
mkdir -p a/b/c && cd a
echo content > file; cp file copy; cp -r b d; ln file hard; ln -s file soft
mv copy renamed; touch -d '2001-02-03 04:05:06 UTC' old; chmod 640 renamed
stat -c '%n %F %a %s %h' file hard soft renamed old; stat -c '%n %F %a %h' b
stat -c '%n %Y' old
ls -1pR
ls -l --time-style=+%s old | awk '{ print $1, $5, $6, $7 }'
readlink soft; readlink -f soft | sed "s|$HOME||"; realpath --relative-to=. b/../file
head -c 300000 /dev/zero | tr '\0' 'z' > big; split -b 100000 big part-; cat part-* | cmp - big && echo same
sha256sum big; md5sum file; cksum file; wc big
dd if=big of=block bs=4096 count=10 skip=2 2>/dev/null; stat -c %s block
dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000 2>/dev/null; stat -c %s sparse
truncate -s 10 block; od -c block
sort -n <<< $'10\n9\n8'; seq 10 | shuf --random-source=<(yes) | sort -n | uniq | tr '\n' ' '; echo
cut -d: -f1 /etc/passwd | head -1; id -u > id; test "$(cat id)" = "$(id -u)"
date -u -d @1000000000 '+%F %T'; printf '%05d %x %s\n' 42 255 text; expr 6 \* 7; basename /x/y.z .z; dirname /x/y
mktemp -d ./tmp.XXXXXX | wc -c; rm -r tmp.*; rm -rf b d; rmdir b 2>&1 | sed 's/.*: //'
install -m 755 file installed; stat -c %a installed; tac part-aa | wc -c; nl file; fold -w 3 file; comm -12 <(seq 5) <(seq 3 8)
env -i A=1 env; uname -s; uname -m; nproc > /dev/null; df . > /dev/null; du -s . > /dev/null; sync file; factor 1234567890
tail -n 2 -f file & sleep 0.2; echo more >> file; sleep 1.5; kill $!; wait 2>/dev/null || true
cp --sparse=always sparse sparse2; cmp sparse sparse2; cp -p old old2; stat -c %Y old2; mkfifo fifo; test -p fifo; ls | sort | tr '\n' ' '
