# tar and gzip, round trips.
set -e
mkdir -p src/deep/er; for i in $(seq 1 200); do echo "file $i" > src/deep/f$i; done; seq 1 50000 > src/numbers
ln -s deep/f1 src/link; ln src/numbers src/hard; chmod 751 src/deep; mkfifo src/fifo; touch -d '2002-03-04 05:06:07 UTC' src/deep/f1
tar cf a.tar src; tar tf a.tar | wc -l; mkdir x; tar xf a.tar -C x; diff -r --no-dereference src/deep x/src/deep && echo equal
stat -c '%a %Y %F' x/src/deep x/src/deep/f1 | sed '1s/ [0-9]* / /'; readlink x/src/link; stat -c %h x/src/hard; test -p x/src/fifo && echo fifo
tar czf a.tgz src; tar tzf a.tgz | sort | head -3; gzip -t a.tgz; rm -r x; mkdir x; tar xzf a.tgz -C x; cmp src/numbers x/src/numbers
gzip -kf src/numbers; ls src | tr '\n' ' '; gunzip -c src/numbers.gz | sha256sum; zcat src/numbers.gz | tail -1; gzip -l src/numbers.gz | awk 'NR == 2 { print $2 }'
tar cf - src | (mkdir y; cd y; tar xf -); ls y/src | wc -l; tar --exclude='f1*' -cf b.tar src; tar tf b.tar | wc -l
echo more > extra; tar rf a.tar extra; tar tf a.tar | tail -1; tar xOf a.tar extra; tar df a.tar && echo unchanged
command -v xz > /dev/null && { xz -k extra; xz -dc extra.xz; }; command -v bzip2 > /dev/null && { bzip2 -k extra; bzip2 -dc extra.bz2; }; true
