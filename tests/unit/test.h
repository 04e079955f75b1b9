#pragma once
// Include last: doctest's CHECK takes the place of ours in the test's own file.
#undef CHECK
#include <doctest/doctest.h>
