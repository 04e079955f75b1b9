#pragma once
#include "tests/guest/guest_test.h"

namespace guest {

// One-byte signals between a case and its child: take() waits for a give().
struct Turn {
  int ends[2];
  Turn() { REQUIRE(pipe(ends) == 0); }
  void give() const { REQUIRE(write(ends[1], "x", 1) == 1); }
  void take() const {
    char byte;
    REQUIRE(read(ends[0], &byte, 1) == 1);
  }
};

}  // namespace guest
