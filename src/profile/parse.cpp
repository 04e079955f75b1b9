// One array of keys per table of the format: it reads the values, and it is what an unknown key is
// compared with. toml++ is included here only, built to report errors by value.
#include "src/profile/parse.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/profile/values.h"

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
// toml++ 3.3 asserts on "[[[" where, without assertions, it reports a proper error.
#define TOML_ASSERT(condition) static_cast<void>(0)
#include <toml++/toml.h>

namespace boxrun::profile {
namespace {

constexpr size_t kMaxErrors = 20;

// What the readers of keys share: where values go, and what was wrong.
struct Reading {
  const std::string& file;
  Profile& profile;
  std::vector<Error> errors;
  // Of the [[filesystem.mount]] being read.
  Mount mount;

  void error(const toml::source_region& where, std::string message) {
    if (errors.size() >= kMaxErrors) return;
    errors.push_back({std::move(message), file, where.begin.line, where.begin.column});
  }
  void error(const toml::node& node, std::string message) {
    error(node.source(), std::move(message));
  }
  std::string origin(const toml::node& node) const {
    return fmt::format("{}:{}", file, node.source().begin.line);
  }
};

struct Key {
  std::string_view name;
  void (*read)(const toml::node& node, Reading& reading);
};

std::string_view type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "a boolean";
    default:
      return "a date or time";
  }
}

void wrong_type(const toml::node& node, Reading& reading, std::string_view wanted) {
  reading.error(node, fmt::format("expected {}, found {}", wanted, type_name(node)));
}

void read_table(const toml::node& node, Reading& reading, std::span<const Key> keys) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return wrong_type(node, reading, "a table");
  for (const auto& [key, value] : *table) {
    const auto known = std::find_if(keys.begin(), keys.end(), [&](const Key& candidate) {
      return candidate.name == key.str();
    });
    if (known != keys.end()) {
      known->read(value, reading);
      continue;
    }
    std::vector<std::string_view> names;
    for (const Key& candidate : keys) names.push_back(candidate.name);
    std::string message = fmt::format("unknown key '{}'", key.str());
    if (const std::string_view guess = nearest(key.str(), names); !guess.empty()) {
      message += fmt::format("; did you mean '{}'?", guess);
    }
    reading.error(key.source(), std::move(message));
  }
}

// Strings end up in paths, names and arguments: a NUL would cut them short behind our back.
const std::string* read_string(const toml::node& node, Reading& reading) {
  const toml::value<std::string>* value = node.as_string();
  if (value == nullptr) {
    wrong_type(node, reading, "a string");
    return nullptr;
  }
  if (value->get().find('\0') != std::string::npos) {
    reading.error(node, "the string holds a NUL character");
    return nullptr;
  }
  return &value->get();
}

// Reads a string through one of the parsers of values.h into `out`.
template <class T, class Parser>
void read_parsed(const toml::node& node, Reading& reading, Parser parser, T& out) {
  const std::string* text = read_string(node, reading);
  if (text == nullptr) return;
  Expected<T> value = parser(*text);
  if (value.ok()) {
    out = std::move(*value);
  } else {
    reading.error(node, value.error().message);
  }
}

template <class E, size_t N>
void read_choice(const toml::node& node, Reading& reading, const Name<E> (&names)[N], E& out) {
  read_parsed(
      node, reading, [&](std::string_view text) { return parse_choice(text, names); }, out);
}

// Sizes and counts may also be written as plain integers.
template <class Parser>
void read_number(const toml::node& node, Reading& reading, Parser parser, uint64_t& out) {
  const toml::value<int64_t>* integer = node.as_integer();
  if (integer == nullptr) return read_parsed(node, reading, parser, out);
  if (integer->get() < 0) return reading.error(node, "must not be negative");
  out = static_cast<uint64_t>(integer->get());
}

template <class Take>
void read_strings(const toml::node& node, Reading& reading, Take take) {
  const toml::array* array = node.as_array();
  if (array == nullptr) return wrong_type(node, reading, "an array of strings");
  for (const toml::node& element : *array) {
    const std::string* text = read_string(element, reading);
    if (text == nullptr) continue;
    if (text->empty()) {
      reading.error(element, "the string is empty");
    } else {
      take(*text, element);
    }
  }
}

void read_located(const toml::node& node, Reading& reading, std::vector<Located>& out) {
  read_strings(node, reading, [&](const std::string& text, const toml::node& element) {
    out.push_back({text, reading.origin(element)});
  });
}

constexpr Key kPlatformKeys[] = {
    {"kind", [](const toml::node& node, Reading& reading) {
       const std::string* text = read_string(node, reading);
       if (text == nullptr) return;
       if (std::find(std::begin(kPlatforms), std::end(kPlatforms), *text) == std::end(kPlatforms)) {
         return reading.error(node, not_one_of(*text, kPlatforms).message);
       }
       reading.profile.platform = *text;
     }}};

void read_path(const toml::node& node, Reading& reading, std::string& out) {
  const std::string* text = read_string(node, reading);
  if (text != nullptr) out = *text;
}

constexpr Key kMountKeys[] = {
    {"source", [](const toml::node& node, Reading& r) { read_path(node, r, r.mount.source); }},
    {"target", [](const toml::node& node, Reading& r) { read_path(node, r, r.mount.target); }},
    {"mode",
     [](const toml::node& node, Reading& r) { read_choice(node, r, kMountModes, r.mount.mode); }},
    {"cache", [](const toml::node& node, Reading& r) {
       MountCache cache = MountCache::kShared;
       read_choice(node, r, kMountCaches, cache);
       r.mount.cache = cache;
     }}};

void read_mounts(const toml::node& node, Reading& reading) {
  const toml::array* array = node.as_array();
  if (array == nullptr) return wrong_type(node, reading, "[[filesystem.mount]]");
  for (const toml::node& element : *array) {
    reading.mount = {};
    reading.mount.origin = reading.origin(element);
    read_table(element, reading, kMountKeys);
    if (reading.mount.source.empty()) reading.error(element, "the mount has no source");
    reading.profile.mounts.push_back(std::move(reading.mount));
  }
}

constexpr Key kFilesystemKeys[] = {
    {"toolchain", [](const toml::node& node,
                     Reading& r) { read_choice(node, r, kToolchains, r.profile.toolchain); }},
    {"cwd",
     [](const toml::node& node, Reading& r) { read_choice(node, r, kCwdModes, r.profile.cwd); }},
    {"home",
     [](const toml::node& node, Reading& r) { read_choice(node, r, kHomeModes, r.profile.home); }},
    {"read", [](const toml::node& node, Reading& r) { read_located(node, r, r.profile.read); }},
    {"write", [](const toml::node& node, Reading& r) { read_located(node, r, r.profile.write); }},
    {"hide", [](const toml::node& node, Reading& r) { read_located(node, r, r.profile.hide); }},
    {"tmpfs", [](const toml::node& node, Reading& r) { read_located(node, r, r.profile.tmpfs); }},
    {"mount", read_mounts}};

constexpr Key kNetworkKeys[] = {{"mode", [](const toml::node& node, Reading& r) {
                                   read_choice(node, r, kNetworkModes, r.profile.network);
                                 }}};

bool is_variable_name(std::string_view name) {
  return !name.empty() && name.find('=') == std::string_view::npos;
}

void read_env_set(const toml::node& node, Reading& reading) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return wrong_type(node, reading, "a table of strings");
  for (const auto& [key, value] : *table) {
    const std::string* text = read_string(value, reading);
    if (text == nullptr) continue;
    const std::string name{key.str()};
    if (!is_variable_name(name) || name.find('\0') != std::string::npos) {
      reading.error(key.source(), fmt::format("'{}' is no name of a variable", name));
      continue;
    }
    auto& set = reading.profile.env_set;
    std::erase_if(set, [&](const auto& earlier) { return earlier.first == name; });
    set.emplace_back(name, *text);
  }
}

constexpr Key kEnvKeys[] = {{"pass",
                             [](const toml::node& node, Reading& r) {
                               read_strings(node, r,
                                            [&](const std::string& text, const toml::node&) {
                                              r.profile.env_pass.push_back(text);
                                            });
                             }},
                            {"set", read_env_set}};

template <std::chrono::nanoseconds Limits::*Member>
void read_time_limit(const toml::node& node, Reading& reading) {
  read_parsed(node, reading, parse_duration, reading.profile.limits.*Member);
}
template <uint64_t Limits::*Member>
void read_size_limit(const toml::node& node, Reading& reading) {
  read_number(node, reading, parse_size, reading.profile.limits.*Member);
}
template <uint64_t Limits::*Member>
void read_count_limit(const toml::node& node, Reading& reading) {
  read_number(node, reading, parse_count, reading.profile.limits.*Member);
}

constexpr Key kLimitKeys[] = {{"timeout", read_time_limit<&Limits::timeout>},
                              {"kill_after", read_time_limit<&Limits::kill_after>},
                              {"cpu_time", read_time_limit<&Limits::cpu_time>},
                              {"memory", read_size_limit<&Limits::memory>},
                              {"processes", read_count_limit<&Limits::processes>},
                              {"open_files", read_count_limit<&Limits::open_files>},
                              {"file_size", read_size_limit<&Limits::file_size>},
                              {"output", read_size_limit<&Limits::output>},
                              {"tmp_size", read_size_limit<&Limits::tmp_size>}};

constexpr Key kSyscallKeys[] = {
    {"default", [](const toml::node& node,
                   Reading& r) { read_parsed(node, r, parse_action, r.profile.syscall_default); }},
    {"deny",
     [](const toml::node& node, Reading& r) {
       read_strings(node, r, [&](const std::string& text, const toml::node& element) {
         r.profile.syscall_rules.push_back({text, std::nullopt, r.origin(element)});
       });
     }},
    {"action", [](const toml::node& node, Reading& r) {
       read_parsed(node, r, parse_action, r.profile.syscall_action);
     }}};

constexpr Key kReportKeys[] = {
    {"formats",
     [](const toml::node& node, Reading& r) {
       read_strings(node, r, [&](const std::string& text, const toml::node& element) {
         const Expected<report::Format> format = parse_choice(text, kFormats);
         if (!format.ok()) return r.error(element, format.error().message);
         auto& formats = r.profile.report_formats;
         if (std::find(formats.begin(), formats.end(), *format) == formats.end()) {
           formats.push_back(*format);
         }
       });
     }},
    {"fail_on", [](const toml::node& node, Reading& r) {
       read_choice(node, r, kFailOns, r.profile.fail_on);
     }}};

void read_schema(const toml::node& node, Reading& reading) {
  const toml::value<int64_t>* version = node.as_integer();
  if (version == nullptr) return wrong_type(node, reading, "an integer");
  if (version->get() != 1) {
    reading.error(
        node, fmt::format("schema {} is not known; this version reads schema 1", version->get()));
  }
}

constexpr Key kTopKeys[] = {
    {"schema", read_schema},
    {"name", [](const toml::node& node, Reading& r) { read_path(node, r, r.profile.name); }},
    {"extends", [](const toml::node&, Reading&) {}},  // taken care of before all others
    {"platform", [](const toml::node& node, Reading& r) { read_table(node, r, kPlatformKeys); }},
    {"filesystem",
     [](const toml::node& node, Reading& r) { read_table(node, r, kFilesystemKeys); }},
    {"network", [](const toml::node& node, Reading& r) { read_table(node, r, kNetworkKeys); }},
    {"env", [](const toml::node& node, Reading& r) { read_table(node, r, kEnvKeys); }},
    {"limits", [](const toml::node& node, Reading& r) { read_table(node, r, kLimitKeys); }},
    {"syscalls", [](const toml::node& node, Reading& r) { read_table(node, r, kSyscallKeys); }},
    {"report", [](const toml::node& node, Reading& r) { read_table(node, r, kReportKeys); }}};

void read_extends(const toml::node& node, const Extend& extend, Reading& reading) {
  std::vector<Located> names;
  read_located(node, reading, names);
  for (const Located& name : names) {
    for (Error& error : extend(name, reading.profile)) {
      if (error.file.empty()) {
        error.file = reading.file;
        error.line = node.source().begin.line;
        error.column = node.source().begin.column;
      }
      if (reading.errors.size() < kMaxErrors) reading.errors.push_back(std::move(error));
    }
  }
}

}  // namespace

std::vector<Error> parse_profile(std::string_view text, const std::string& file,
                                 const Extend& extend, Profile& profile) {
  Reading reading{file, profile, {}, {}};
  const toml::parse_result parsed = toml::parse(text, std::string_view(file));
  if (!parsed) {
    reading.error(parsed.error().source(), std::string(parsed.error().description()));
    return std::move(reading.errors);
  }
  const toml::table& table = parsed.table();
  if (!table.contains("schema")) {
    reading.errors.push_back({"there is no `schema = 1`", file, 1, 1});
  }
  if (const toml::node* names = table.get("extends")) read_extends(*names, extend, reading);
  read_table(table, reading, kTopKeys);
  std::stable_sort(reading.errors.begin(), reading.errors.end(),
                   [&](const Error& a, const Error& b) {
                     return a.file == file && b.file == file && a.line < b.line;
                   });
  return std::move(reading.errors);
}

}  // namespace boxrun::profile
