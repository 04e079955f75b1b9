// `hide` globs as an automaton over the names of a path, so that every fid knows by itself which
// names below it are hidden, and no path string is ever put together.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/ref.h"
#include "src/base/result.h"

namespace boxrun::gofer {

// The name matches the glob: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before a character. A leading dot is
// nothing special: hiding must err on the side of hiding.
bool glob_matches(std::string_view glob, std::string_view name);

// A `[` of the glob that no `]` ends, which means itself: hardly what anybody wants to hide.
bool has_unfinished_class(std::string_view glob);

// How far each pattern has matched the path of one directory or file. Immutable and shared: most
// directories of a mount have the same state.
class HideState final : public RefCounted {
 public:
  // The path is matched by a pattern, or is below one that is.
  bool hidden() const { return hidden_; }
  bool operator==(const HideState& other) const {
    return hidden_ == other.hidden_ && live_ == other.live_;
  }

 private:
  friend class HidePatterns;
  // Bit p of `positions`: the next name has to match component p. The bit behind the last
  // component means a match.
  struct Live {
    uint16_t pattern;
    uint64_t positions;
    bool operator==(const Live&) const = default;
  };
  std::vector<Live> live_;
  bool hidden_ = false;
};

// The patterns of one mount. A pattern with a leading '/' is matched against the absolute host
// path, any other against the path from the mount's root. `**` is any number of names, also none;
// as the last component at least one. Immutable, so thread-safe.
class HidePatterns {
 public:
  // `shown` are absolute paths, not globs, that are there whatever matches them, but not what is
  // below them: places that something is mounted on. EINVAL for an empty pattern or one of more
  // than 62 components.
  static Result<HidePatterns> create(std::span<const std::string> globs,
                                     std::span<const std::string> shown = {});

  // The state of a mount's root, which is `host_path` (absolute, normal) on the host.
  Ref<HideState> root_state(std::string_view host_path) const;
  // The state of `name` in a directory whose state is `directory`.
  Ref<HideState> step(const Ref<HideState>& directory, std::string_view name) const;
  // What is left of the patterns for the paths below `path` (absolute, normal), as relative ones.
  // Those that hide `path` itself, and those that start with `**` and so match anywhere, are not
  // among them.
  std::vector<std::string> rests_below(std::string_view path) const;

 private:
  struct Pattern {
    bool absolute;
    bool shows;
    std::vector<std::string> components;
  };
  uint64_t closed(const Pattern& pattern, uint64_t positions) const;
  uint64_t advance(const Pattern& pattern, uint64_t positions, std::string_view name) const;
  Result<void> add(const std::string& path, bool shows);
  // Whether a pattern of that kind has matched.
  bool matched(const std::vector<HideState::Live>& live, bool shows) const;
  Ref<HideState> make_state(std::vector<HideState::Live> live) const;

  std::vector<Pattern> patterns_;
};

}  // namespace boxrun::gofer
