// The first libc programs of a bring-up: linked three times, as hello_static (no interpreter, fixed
// address), hello_static_pie (relocates itself) and hello_dynamic (ld.so, mmap of libraries, RELRO,
// TLS).
#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <vector>

namespace {
thread_local int counter = 41;          // a TLS image that must have been set up
const char* const kGreeting = "hello";  // .data.rel.ro: relocated, then made read-only
}  // namespace

int main(int argc, char** argv) {
  (void)argv;
  std::vector<std::string> words;  // the heap
  words.emplace_back(kGreeting);
  words.emplace_back(std::string(100000, 'x'));  // beyond one brk increment
  ++counter;
  printf("%s from libc, %d, %zu, argc %d\n", words[0].c_str(), counter, words[1].size(), argc);
  fprintf(stderr, "and on stderr\n");
  double half = strtod("0.5", nullptr);
  printf("%.3f\n", half * 3);
  return counter;
}
