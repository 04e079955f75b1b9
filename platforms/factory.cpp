#include "platforms/factory.h"

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

}  // namespace

std::unique_ptr<Platform> create(const Options& options, Failure& failure) {
  const bool systrap = options.kind == "systrap";
  if (!systrap && options.kind != "auto" && options.kind != "ptrace") {
    failure = {"use the platform \"" + options.kind + "\"", "platform", Errno::kInval,
               "the platforms of this build are: auto, ptrace, systrap"};
    return nullptr;
  }
  StubError error;
  std::unique_ptr<Platform> platform;
  if (systrap) {
    platform = SystrapPlatform::create(options.memory_file, error);
  } else {
    platform = PtracePlatform::create(options.memory_file, error);
  }
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
    failure = {error.step, systrap ? "platform systrap" : "platform ptrace", error.error,
               systrap ? systrap_remedy(error) : ptrace_remedy(error)};
  }
  return platform;
}

}  // namespace boxrun::platform
