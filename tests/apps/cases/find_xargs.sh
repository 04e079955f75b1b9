# A tree of 1,500 files, found and processed.
for d in $(seq 1 30); do mkdir -p tree/d$d/sub; for f in $(seq 1 50); do echo "$d $f" > tree/d$d/sub/f$f.txt; done; done
find tree -type f | wc -l; find tree -type d | wc -l
find tree -name 'f1*.txt' -newer tree/d1 | wc -l > /dev/null
find tree -name 'f7.txt' -print0 | sort -z | xargs -0 cat | sed -n 1,3p
find tree -name '*.txt' | xargs -n 100 wc -l | awk '$2 == "total" { s += $1 } END { print s }'
find tree -name 'f3.txt' -exec sh -c 'echo "$1" | tr / -' _ {} \; | sort | head -2
find tree -type f -name 'f5?.txt' -delete; find tree -type f | wc -l
seq 1 20 | xargs -P 2 -I{} sh -c 'echo {}' | sort -n | tr '\n' ' '; echo
find tree -type f -size -10c -perm -u+r | wc -l; find tree -maxdepth 1 -mindepth 1 | sort -V | tail -1
find tree -empty; touch tree/empty; find tree -empty; find tree -path '*d2/*' -prune -o -name f1.txt -print | wc -l
echo a b c | xargs -n1 echo item; false | xargs -r echo never; printf 'x\n' | xargs false; echo "xargs $?"
rm -r tree; ls
