#include "sentry/net/unix_message.h"

#include <utility>

#include "sentry/net/unix_endpoint.h"

namespace boxrun::net {

UnixMessage::UnixMessage(Ref<UnixEndpoint> from, size_t charge)
    : from_(std::move(from)), charge_(charge) {}

Result<std::unique_ptr<UnixMessage>> UnixMessage::create(Ref<UnixEndpoint> from, IoBuffers& data,
                                                         size_t size) {
  const size_t charge = size + kOverhead;
  TRY(from->charge_sent(charge));
  std::unique_ptr<UnixMessage> message(new UnixMessage(std::move(from), charge));
  if (size == 0) return message;
  message->data_ = std::make_unique_for_overwrite<std::byte[]>(size);
  message->end_ = TRY(data.take({message->data_.get(), size}));
  return message;
}

UnixMessage::~UnixMessage() {
  if (has_files()) from_->system().bury(take_files());
  from_->release_sent(charge_);
}

Result<void> UnixMessage::attach(std::vector<Ref<vfs::FileDescription>>& files, uint64_t limit) {
  TRY(from_->system().take_off(files.size(), limit));
  files_ = std::exchange(files, {});
  return {};
}

std::vector<Ref<vfs::FileDescription>> UnixMessage::take_files() {
  from_->system().land(files_.size());
  return std::exchange(files_, {});
}

}  // namespace boxrun::net
