// From the top down: a null word, the file name, environment strings, argument strings, the
// platform name, random bytes; then, 16-byte aligned at the bottom: argc, argv, NULL, envp, NULL,
// auxv. Linux puts argc at the initial stack pointer (System V ABI, figure 3.9).
#include "sentry/loader/stack.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "src/base/bytes.h"

namespace boxrun::loader {
namespace {

constexpr uint64_t kMaxString = 131072;
constexpr std::string_view kPlatform("x86_64\0", 7);

// Grows a byte image downwards from an address.
class Downward {
 public:
  explicit Downward(uint64_t top) : top_(top), at_(top) {}
  uint64_t push(const void* data, size_t size) {
    at_ -= size;
    pieces_.push_back({at_, {static_cast<const char*>(data), size}});
    return at_;
  }
  uint64_t push(const std::string& s) { return push(s.c_str(), s.size() + 1); }
  void align(uint64_t alignment) { at_ &= ~(alignment - 1); }
  void skip(uint64_t size) { at_ -= size; }
  uint64_t at() const { return at_; }
  std::vector<std::byte> image() const {
    std::vector<std::byte> bytes(top_ - at_);
    for (const auto& [addr, text] : pieces_) memcpy(&bytes[addr - at_], text.data(), text.size());
    return bytes;
  }

 private:
  const uint64_t top_;
  uint64_t at_;
  std::vector<std::pair<uint64_t, std::string_view>> pieces_;
};

Result<void> check_size(const StackContents& c, uint64_t stack_limit) {
  const uint64_t limit =
      std::max<uint64_t>(std::min<uint64_t>(stack_limit / 4, 6 << 20), kMaxString);
  uint64_t used = (c.argv.size() + c.envp.size()) * 8 + c.filename.size() + 1;
  for (const auto* list : {&c.argv, &c.envp}) {
    for (const std::string& s : *list) {
      if (s.size() >= kMaxString) return Errno::k2Big;
      used += s.size() + 1;
      if (used > limit) return Errno::k2Big;
    }
  }
  return {};
}

// Pushes the strings so that the first lies lowest, as Linux has them, and returns their addresses.
std::vector<uint64_t> push_strings(const std::vector<std::string>& strings, Downward& stack) {
  std::vector<uint64_t> addresses(strings.size());
  for (size_t i = strings.size(); i-- > 0;) addresses[i] = stack.push(strings[i]);
  return addresses;
}

}  // namespace

Result<Stack> build_stack(const StackContents& contents, uint64_t top, uint64_t stack_limit) {
  TRY(check_size(contents, stack_limit));
  Stack result;
  Downward stack(top);
  const uint64_t null_word = 0;
  stack.push(&null_word, sizeof null_word);
  const uint64_t filename = stack.push(contents.filename);
  result.env.end = stack.at();
  const auto envp = push_strings(contents.envp, stack);
  result.env.start = result.args.end = stack.at();
  const auto argv = push_strings(contents.argv, stack);
  result.args.start = stack.at();
  stack.align(16);
  const uint64_t platform = stack.push(kPlatform.data(), kPlatform.size());
  const uint64_t random = stack.push(contents.random.data(), contents.random.size());
  stack.align(16);

  std::vector<uint64_t> words;
  words.push_back(argv.size());
  words.insert(words.end(), argv.begin(), argv.end());
  words.push_back(0);
  words.insert(words.end(), envp.begin(), envp.end());
  words.push_back(0);
  const size_t auxv_at = words.size();
  for (const auto& [key, value] : contents.auxv) {
    words.push_back(key);
    words.push_back(value);
  }
  for (const auto& [key, value] : {std::pair<uint64_t, uint64_t>{AT_RANDOM, random},
                                   {AT_EXECFN, filename},
                                   {AT_PLATFORM, platform},
                                   {AT_NULL, 0}}) {
    words.push_back(key);
    words.push_back(value);
  }
  if (words.size() % 2 != 0) stack.skip(8);  // so that argc is 16-byte aligned
  stack.push(words.data(), words.size() * 8);

  result.start = stack.at();
  result.bytes = stack.image();
  const auto auxv = std::as_bytes(std::span(words).subspan(auxv_at));
  result.auxv.assign(auxv.begin(), auxv.end());
  return result;
}

}  // namespace boxrun::loader
