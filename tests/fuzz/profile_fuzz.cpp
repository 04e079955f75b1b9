// Any bytes as a profile: parsed or refused, never more.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "src/profile/parse.h"

using namespace boxrun::profile;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Profile profile;
  const Extend extend = [](const Located&, Profile&) { return std::vector<Error>{}; };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const Error& error : parse_profile(text, "fuzz.toml", extend, profile)) {
    if (error.text().empty()) __builtin_trap();
  }
  return 0;
}
