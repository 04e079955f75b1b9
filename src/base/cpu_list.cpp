#include "src/base/cpu_list.h"

#include <fmt/format.h>

#include <cstdint>
#include <vector>

namespace boxrun {

std::string cpu_list(std::span<const unsigned> cpus) {
  std::string out;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) last++;
    if (!out.empty()) out += ',';
    out += std::to_string(cpus[i]);
    if (last > i) out += '-' + std::to_string(cpus[last]);
    i = last + 1;
  }
  return out;
}

std::string cpu_mask(std::span<const unsigned> cpus, unsigned possible) {
  std::vector<uint32_t> words((possible + 31) / 32);
  for (const unsigned cpu : cpus) words[cpu / 32] |= uint32_t{1} << cpu % 32;
  std::string out;
  for (size_t i = words.size(); i-- > 0;) {
    const unsigned bits = out.empty() ? (possible - 1) % 32 + 1 : 32;
    if (!out.empty()) out += ',';
    out += fmt::format("{:0{}x}", words[i], (bits + 3) / 4);
  }
  return out;
}

}  // namespace boxrun
