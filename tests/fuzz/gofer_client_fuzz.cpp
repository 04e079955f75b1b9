// What a hostile Gofer answers to the Sentry.
#include <fcntl.h>

#include <array>
#include <memory>
#include <vector>

#include "gofer/client.h"
#include "tests/fuzz/gofer_memory_channel.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

void use(Client& client, unsigned what) {
  constexpr std::string_view kNames[] = {"a", "b", "c"};
  std::array<std::byte, 128> data{};
  IoBuffers buffers{std::span<std::byte>(data)};
  switch (what % 12) {
    case 0:
      (void)client.walk(0, kNames, {.open_flags = O_RDONLY});
      break;
    case 1:
      (void)client.walk(0, kNames, {.stat_start = true, .list_after = 1});
      break;
    case 2:
      (void)client.list(0, Listed::kNames);
      break;
    case 3:
      (void)client.read_directory(0, 7, Listed::kAttributes);
      break;
    case 4:
      (void)client.create(0, "n", O_RDWR, 0644, {});
      break;
    case 5:
      (void)client.mkdir(0, "n", 0755, {});
      break;
    case 6:
      (void)client.set_attr(0, {.valid = kSetMode});
      break;
    case 7:
      (void)client.get_xattr(0, "user.a");
      break;
    case 8:
      (void)client.set_xattr(0, "user.a", data, 0);
      break;
    case 9:
      (void)client.read(0, 0, buffers);
      break;
    case 10:
      (void)client.write(0, 0, buffers);
      break;
    default:
      (void)client.statfs(0);
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 8) return 0;
  std::vector<std::unique_ptr<Channel>> channels;
  channels.push_back(std::make_unique<MemoryChannel>(std::as_bytes(std::span(data + 8, size - 8))));
  Result<std::unique_ptr<Client>> client =
      Client::connect(std::move(channels), (data[0] & 1) != 0 ? Dialect::kBoxrun : Dialect::kPlain);
  if (!client.ok()) return 0;
  for (size_t i = 1; i < 8; i++) use(**client, data[i]);
  return 0;
}
