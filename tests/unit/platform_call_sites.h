// What the tests of patched call sites share.
#pragma once
#include "tests/unit/platform_suite.h"

namespace boxrun::platform {

// For trampolines.
inline constexpr Range kSpare{0x500000, 0x501000};

inline void on_systrap(const std::function<void(Machine&)>& body) {
  on_platforms(Which::kRealCode, [&body](Machine& m) {
    if (m.kind == "systrap") body(m);
  });
}

inline uint64_t end_of(const char* label) { return guest_address(label); }

// The site that ends at `label` of the guest's text, where the platform may improve it.
inline AddressSpace::CallSite site_at(const Machine& m, const char* label, uint64_t number = 1010) {
  return {end_of(label), number, std::span<const std::byte, kPageSize>(m.memory.at(0), kPageSize),
          kSpare};
}

}  // namespace boxrun::platform
