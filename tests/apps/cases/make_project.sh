# needs: gcc make
# timeout: 300
# A C project of 200 files, built with two jobs, run, changed, and built again.
set -e
mkdir src; cd src
for i in $(seq 1 200); do
  printf '#include "all.h"\nint f%d(int x) { return x * %d + %d; }\n' "$i" "$i" "$((i % 13))" > "f$i.c"
done
{ echo '#pragma once'; for i in $(seq 1 200); do echo "int f$i(int);"; done; } > all.h
{ echo '#include <stdio.h>'; echo '#include "all.h"'; echo 'int main(void) { long s = 0;'
  for i in $(seq 1 200); do echo "  s += f$i($i);"; done; echo '  printf("%ld\n", s); return 0; }'; } > main.c
cat > Makefile <<'END'
OBJS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJS)
	@gcc -o $@ $^
%.o: %.c all.h
	@gcc -O1 -c -o $@ $<
clean:
	@rm -f *.o program
END
make -j2; ./program; ls *.o | wc -l
make -j2; touch all.h f7.c; sed -i 's/\* 7/* 70/' f7.c; make -j2; ./program
make -q && echo "up to date"; make clean; ls | wc -l
echo 'int broken(' > bad.c; make -j2 2> errors || echo "make failed with $?"; grep -c error errors > /dev/null && echo "errors reported"
