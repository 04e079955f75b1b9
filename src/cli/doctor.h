#pragma once
#include <string>
#include <vector>

namespace boxrun::cli {

// One thing that boxrun needs or can use, tried out on this host.
struct HostCheck {
  std::string name;
  bool ok = false;
  bool required = false;  // without it nothing runs
  std::string detail;     // what was found, or why not
  std::string remedy;     // empty where it is fine or nothing can be done
};

// Tries everything out in child processes; the caller must have one thread. Takes some
// milliseconds.
std::vector<HostCheck> examine_host();

// Whether boxrun can run programs here.
bool is_usable(const std::vector<HostCheck>& checks);

std::string doctor_text(const std::vector<HostCheck>& checks);
std::string doctor_json(const std::vector<HostCheck>& checks);

}  // namespace boxrun::cli
