#include <cstdio>
#include <string_view>

int main(int argc, char** argv) {
  constexpr int kOwnFailure = 125;
  if (argc == 2 && std::string_view(argv[1]) == "version") {
    puts("boxrun " BOXRUN_VERSION);
    return 0;
  }
  fputs("boxrun: this version can only say its version\n", stderr);
  return kOwnFailure;
}
