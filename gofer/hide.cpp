#include "gofer/hide.h"

#include <algorithm>

namespace boxrun::gofer {
namespace {

constexpr size_t kMaxComponents = 62;
constexpr size_t kNone = std::string_view::npos;

// Where the class that starts at glob[at] (a '[') ends, and whether `c` is in it. An unterminated
// '[' is an ordinary character, as in sh.
struct Class {
  size_t end = kNone;
  bool contains = false;
};
Class match_class(std::string_view glob, size_t at, char c) {
  size_t i = at + 1;
  const bool negated = i < glob.size() && (glob[i] == '!' || glob[i] == '^');
  if (negated) i++;
  bool found = false;
  for (bool first = true; i < glob.size(); first = false) {
    if (glob[i] == ']' && !first) return {i + 1, found != negated};
    const char low = glob[i];
    char high = low;
    if (i + 2 < glob.size() && glob[i + 1] == '-' && glob[i + 2] != ']') {
      high = glob[i + 2];
      i += 2;
    }
    if (static_cast<unsigned char>(low) <= static_cast<unsigned char>(c) &&
        static_cast<unsigned char>(c) <= static_cast<unsigned char>(high)) {
      found = true;
    }
    i++;
  }
  return {};
}

// Matches one character of the name at glob[at]; the position behind what matched it, or kNone.
size_t match_one(std::string_view glob, size_t at, char c) {
  if (glob[at] == '?') return at + 1;
  if (glob[at] == '[') {
    const Class found = match_class(glob, at, c);
    if (found.end != kNone) return found.contains ? found.end : kNone;
  }
  if (glob[at] == '\\' && at + 1 < glob.size()) at++;
  return glob[at] == c ? at + 1 : kNone;
}

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    if (slash != 0) names.emplace_back(path.substr(0, slash));
    if (slash == kNone) break;
    path.remove_prefix(slash + 1);
  }
  return names;
}

}  // namespace

// On a mismatch only the last star needs to be tried again, with one more character: no recursion,
// and at most glob.size() * name.size() steps.
bool glob_matches(std::string_view glob, std::string_view name) {
  size_t g = 0, n = 0, star = kNone, star_name = 0;
  while (n < name.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_name = n;
      continue;
    }
    const size_t next = g < glob.size() ? match_one(glob, g, name[n]) : kNone;
    if (next != kNone) {
      g = next;
      n++;
    } else if (star != kNone) {
      g = star + 1;
      n = ++star_name;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') g++;
  return g == glob.size();
}

bool has_unfinished_class(std::string_view glob) {
  for (const std::string& name : split(glob)) {
    for (size_t i = 0; i < name.size(); i++) {
      if (name[i] == '\\') {
        i++;
      } else if (name[i] == '[') {
        const size_t end = match_class(name, i, ' ').end;
        if (end == kNone) return true;
        i = end - 1;
      }
    }
  }
  return false;
}

Result<void> HidePatterns::add(const std::string& path, bool shows) {
  Pattern pattern{path.starts_with('/'), shows, split(path)};
  if (pattern.components.empty()) return Errno::kInval;
  // `dir/**` hides what is in dir, not dir.
  if (!shows && pattern.components.back() == "**") pattern.components.emplace_back("*");
  if (pattern.components.size() > kMaxComponents) return Errno::kInval;
  patterns_.push_back(std::move(pattern));
  return {};
}

Result<HidePatterns> HidePatterns::create(std::span<const std::string> globs,
                                          std::span<const std::string> shown) {
  HidePatterns patterns;
  for (const std::string& glob : globs) TRY(patterns.add(glob, false));
  for (const std::string& path : shown) TRY(patterns.add(path, true));
  if (patterns.patterns_.size() > UINT16_MAX) return Errno::kInval;
  return patterns;
}

uint64_t HidePatterns::closed(const Pattern& pattern, uint64_t positions) const {
  if (pattern.shows) return positions;
  for (size_t p = 0; p < pattern.components.size(); p++) {
    if ((positions >> p & 1) != 0 && pattern.components[p] == "**") {
      positions |= uint64_t{2} << p;
    }
  }
  return positions;
}

uint64_t HidePatterns::advance(const Pattern& pattern, uint64_t positions,
                               std::string_view name) const {
  uint64_t next = 0;
  for (size_t p = 0; p < pattern.components.size(); p++) {
    if ((positions >> p & 1) == 0) continue;
    if (pattern.shows) {
      if (pattern.components[p] == name) next |= uint64_t{2} << p;
    } else if (pattern.components[p] == "**") {
      next |= uint64_t{1} << p;
    } else if (glob_matches(pattern.components[p], name)) {
      next |= uint64_t{2} << p;
    }
  }
  return closed(pattern, next);
}

bool HidePatterns::matched(const std::vector<HideState::Live>& live, bool shows) const {
  return std::ranges::any_of(live, [&](const HideState::Live& one) {
    const Pattern& pattern = patterns_[one.pattern];
    return pattern.shows == shows && (one.positions >> pattern.components.size() & 1) != 0;
  });
}

Ref<HideState> HidePatterns::make_state(std::vector<HideState::Live> live) const {
  auto state = make_ref<HideState>();
  state->hidden_ = matched(live, false) && !matched(live, true);
  state->live_ = std::move(live);
  return state;
}

Ref<HideState> HidePatterns::root_state(std::string_view host_path) const {
  std::vector<HideState::Live> live;
  const std::vector<std::string> names = split(host_path);
  for (size_t i = 0; i < patterns_.size(); i++) {
    uint64_t positions = closed(patterns_[i], 1);
    if (patterns_[i].absolute) {
      for (const std::string& name : names) {
        const size_t end = patterns_[i].components.size();
        // A parent of the root is hidden: so is the root.
        if (!patterns_[i].shows && (positions >> end & 1) != 0) break;
        positions = advance(patterns_[i], positions, name);
      }
    }
    if (positions != 0) live.push_back({static_cast<uint16_t>(i), positions});
  }
  return make_state(std::move(live));
}

std::vector<std::string> HidePatterns::rests_below(std::string_view path) const {
  std::vector<std::string> rests;
  const Ref<HideState> state = root_state(path);
  for (const HideState::Live& live : state->live_) {
    const std::vector<std::string>& components = patterns_[live.pattern].components;
    if ((live.positions >> components.size() & 1) != 0) continue;
    for (size_t p = components[0] == "**" ? 2 : 1; p < components.size(); p++) {
      if ((live.positions >> p & 1) == 0) continue;
      std::string rest = components[p];
      for (size_t i = p + 1; i < components.size(); i++) rest += "/" + components[i];
      rests.push_back(std::move(rest));
    }
  }
  return rests;
}

Ref<HideState> HidePatterns::step(const Ref<HideState>& directory, std::string_view name) const {
  if (directory->hidden_ || directory->live_.empty()) return directory;
  if (matched(directory->live_, false)) {  // the directory is shown, and nothing in it
    auto state = make_ref<HideState>();
    state->hidden_ = true;
    return state;
  }
  std::vector<HideState::Live> live;
  for (const HideState::Live& one : directory->live_) {
    const uint64_t next = advance(patterns_[one.pattern], one.positions, name);
    if (next != 0) live.push_back({one.pattern, next});
  }
  if (live == directory->live_) return directory;
  return make_state(std::move(live));
}

}  // namespace boxrun::gofer
