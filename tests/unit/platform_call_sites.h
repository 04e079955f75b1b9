// What the tests of patched call sites share.
#pragma once
#include "tests/unit/platform_suite.h"

namespace boxrun::platform {

// For trampolines.
inline constexpr Range kSpare{0x500000, 0x501000};

inline uint64_t end_of(const char* label) { return guest_address(label); }

// The site that ends at `label` of the guest's text, where the platform may improve it.
inline AddressSpace::CallSite site_at(const Machine& m, const char* label, uint64_t number = 1010) {
  return {end_of(label), number, std::span<const std::byte, kPageSize>(m.memory.at(0), kPageSize),
          kSpare};
}

// Has `t` call at guest_site once, then patches that site.
inline void call_and_patch(const Machine& m, GuestThread& t) {
  t.start(guest_site);
  REQUIRE(t.run().why == Why::kSyscall);
  t.space->improve(site_at(m, guest_site_done));
}

}  // namespace boxrun::platform
