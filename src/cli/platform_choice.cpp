#include "src/cli/platform_choice.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "platforms/factory.h"
#include "platforms/measure.h"
#include "src/base/fd.h"
#include "src/base/write_all.h"
#include "src/cli/attempt.h"

namespace boxrun::cli {
namespace {

using std::chrono::nanoseconds;

host::StartMessage try_platform(std::string_view kind) {
  const UniqueFd memory(::memfd_create("boxrun-trial", MFD_CLOEXEC));
  if (::ftruncate(memory.get(), 1 << 20) != 0)
    return {Failure{"make a memory file", "platforms", last_error(), {}}, {}, {}};
  Failure failure;
  const auto platform =
      platform::create({.kind = std::string(kind), .memory_file = memory.get()}, failure);
  if (platform == nullptr) return {failure, {}, {}};
  const Result<nanoseconds> call = platform::measure_call(*platform, memory.get());
  if (!call.ok())
    return {Failure{"run guest code", fmt::format("platform {}", kind), call.error(), {}}, {}, {}};
  return {{}, {}, std::to_string(call->count())};
}

std::string one_line(const char* path) {
  const Result<UniqueFd> file = own_fd(::open(path, O_RDONLY | O_CLOEXEC));
  char bytes[128];
  const ssize_t n = file.ok() ? ::read(file->get(), bytes, sizeof bytes) : 0;
  const std::string text(bytes, n > 0 ? static_cast<size_t>(n) : 0);
  return text.substr(0, text.find('\n'));
}

// What the choice was made for: this boot, this build, these CPUs.
std::string circumstances() {
  struct stat self = {};
  ::stat("/proc/self/exe", &self);
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  ::sched_getaffinity(0, sizeof cpus, &cpus);
  return fmt::format("boxrun platform 1, boot {}, build {}.{}.{}, cpus {}",
                     one_line("/proc/sys/kernel/random/boot_id"), self.st_ino, self.st_mtim.tv_sec,
                     self.st_mtim.tv_nsec, CPU_COUNT(&cpus));
}

std::string remembered_at() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the process has one thread
  const char* directory = std::getenv("XDG_RUNTIME_DIR");
  if (directory == nullptr || *directory != '/') directory = "/tmp";
  return fmt::format("{}/boxrun-platform-{}", directory, ::geteuid());
}

// Two lines: the circumstances and a platform. Nothing unless the file is ours alone to write.
std::optional<std::string> recall(const std::string& path, const std::string& now) {
  const Result<UniqueFd> file =
      own_fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status = {};
  if (!file.ok() || ::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_uid != ::geteuid() || (status.st_mode & 022) != 0) {
    return std::nullopt;
  }
  char bytes[512];
  const ssize_t n = ::read(file->get(), bytes, sizeof bytes);
  const std::string text(bytes, n > 0 ? static_cast<size_t>(n) : 0);
  for (const std::string_view kind : platform::kinds()) {
    if (text == fmt::format("{}\n{}\n", now, kind)) return std::string(kind);
  }
  return std::nullopt;
}

// By something that no file of ours can replace.
bool is_taken(const std::string& path) {
  struct stat status = {};
  if (::lstat(path.c_str(), &status) != 0) return false;
  return S_ISDIR(status.st_mode) || status.st_uid != ::geteuid();
}

}  // namespace

std::vector<PlatformTrial> try_platforms() {
  std::vector<PlatformTrial> trials;
  for (const std::string_view kind : platform::kinds()) {
    // A number of nanoseconds stands for the platform's name.
    const host::StartMessage answer = attempt_in_child([kind] { return try_platform(kind); });
    PlatformTrial trial{std::string(kind), answer.failure, nanoseconds(0)};
    int64_t count = 0;
    std::from_chars(answer.platform.data(), answer.platform.data() + answer.platform.size(), count);
    trial.call = nanoseconds(count);
    trials.push_back(std::move(trial));
  }
  return trials;
}

std::string cheapest(const std::vector<PlatformTrial>& trials) {
  const PlatformTrial* best = nullptr;
  for (const PlatformTrial& trial : trials) {
    if (!trial.failure && (best == nullptr || trial.call < best->call)) best = &trial;
  }
  return best != nullptr ? best->kind : "";
}

std::string remembered_platform() {
  const std::string path = remembered_at();
  const std::string now = circumstances();
  if (std::optional<std::string> kind = recall(path, now)) return *kind;
  // Where nothing can be kept, measuring would cost every run more than it gains.
  if (is_taken(path)) return "";
  std::string draft = path + ".XXXXXX";
  const Result<UniqueFd> file = own_fd(::mkostemp(draft.data(), O_CLOEXEC));
  if (!file.ok()) return "";
  std::string best = cheapest(try_platforms());
  const bool kept = !best.empty() &&
                    write_all(file->get(), fmt::format("{}\n{}\n", now, best)).ok() &&
                    ::rename(draft.c_str(), path.c_str()) == 0;
  if (!kept) ::unlink(draft.c_str());
  return best;
}

}  // namespace boxrun::cli
