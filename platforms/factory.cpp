#include "platforms/factory.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "platforms/ptrace/ptrace_platform.h"
#include "platforms/systrap/systrap_platform.h"

namespace boxrun::platform {
namespace {

std::string limits_remedy(const StubError& error) {
  switch (error.error) {
    case Errno::kAgain:
    case Errno::kNoMem:
      return "raise the limits on processes (ulimit -u) and memory";
    case Errno::kMFile:
    case Errno::kNFile:
      return "raise the limit on open files (ulimit -n)";
    default:
      return "";
  }
}

std::string systrap_remedy(const StubError& error) {
  if (error.error == Errno::kNoSys) {
    return "use --platform ptrace, or Linux 5.9 or newer on an x86-64 CPU with FSGSBASE";
  }
  return limits_remedy(error);
}

// What to do about a host that refuses; by errno, because the steps share their causes.
std::string ptrace_remedy(const StubError& error) {
  switch (error.error) {
    case Errno::kPerm:
    case Errno::kAcces:
      return "let this process trace its own children: kernel.yama.ptrace_scope must be 0 or 1, "
             "and "
             "a container's seccomp profile must allow ptrace";
    case Errno::kNoSys:
    case Errno::kIo:
      return "the host kernel must be Linux 5.3 or newer on x86-64, not an emulation of it";
    default:
      return limits_remedy(error);
  }
}

template <class P>
std::unique_ptr<Platform> create_platform(int memory_file, StubError& error) {
  return P::create(memory_file, error);
}

struct Kind {
  std::string_view name;
  std::unique_ptr<Platform> (*create)(int memory_file, StubError& error);
  std::string (*remedy)(const StubError& error);
};

constexpr std::array kKinds{
    Kind{"systrap", create_platform<SystrapPlatform>, systrap_remedy},
    Kind{"ptrace", create_platform<PtracePlatform>, ptrace_remedy},
};

std::unique_ptr<Platform> create_kind(const Kind& kind, const Options& options, Failure& failure) {
  StubError error;
  std::unique_ptr<Platform> platform = kind.create(options.memory_file, error);
  if (platform != nullptr && options.losses != nullptr) {
    Result<UniqueFd> losses = watch_losses();
    if (losses.ok()) {
      *options.losses = std::move(losses).take();
    } else {
      error = {"watch for ended stubs", losses.error()};
      platform = nullptr;
    }
  }
  if (platform == nullptr) {
    failure = {error.step, "platform " + std::string(kind.name), error.error, kind.remedy(error)};
  }
  return platform;
}

}  // namespace

std::span<const std::string_view> kinds() {
  static constexpr auto kNames = [] {
    std::array<std::string_view, kKinds.size()> names;
    std::ranges::transform(kKinds, names.begin(), &Kind::name);
    return names;
  }();
  return kNames;
}

std::unique_ptr<Platform> create(const Options& options, Failure& failure) {
  const bool automatic = options.kind == "auto";
  std::vector<Kind> candidates;
  std::ranges::copy_if(kKinds, std::back_inserter(candidates),
                       [&](const Kind& kind) { return automatic || kind.name == options.kind; });
  if (candidates.empty()) {
    failure = {"use the platform \"" + options.kind + "\"", "platform", Errno::kInval,
               "the platforms of this build are: auto, ptrace, systrap"};
    return nullptr;
  }
  std::stable_partition(candidates.begin(), candidates.end(),
                        [&](const Kind& kind) { return kind.name == options.preferred; });
  std::string before;
  for (const Kind& kind : candidates) {
    if (auto platform = create_kind(kind, options, failure)) return platform;
    // Of what was tried, the last is what there is something to be done about.
    failure.what = before + failure.what;
    before = failure.what + ": " + std::string(errno_name(failure.error)) + " (platform " +
             std::string(kind.name) + "); ";
  }
  return nullptr;
}

}  // namespace boxrun::platform
