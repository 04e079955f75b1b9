#include "sentry/trace/tracer.h"

#include "src/base/write_all.h"

namespace boxrun::trace {

void Tracer::line(const std::string& text) {
  const std::string whole = text + '\n';
  if (const Result<void> done = write_all(sink_.get(), whole);
      !done && !incomplete_.exchange(true)) {
    if (lost_) lost_(done.error());
  }
}

}  // namespace boxrun::trace
