// Sets of CPUs as text, in the two formats of cpuset(7).
#pragma once
#include <span>
#include <string>

namespace boxrun {

// "List format", as "0-3,8". `cpus` ascend.
std::string cpu_list(std::span<const unsigned> cpus);

// "Mask format" of a machine with the CPUs [0, possible): words of 32 bits, the highest first, and
// as many digits as `possible` takes (lib/vsprintf.c: bitmap_string).
std::string cpu_mask(std::span<const unsigned> cpus, unsigned possible);

}  // namespace boxrun
