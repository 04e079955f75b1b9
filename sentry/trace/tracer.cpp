#include "sentry/trace/tracer.h"

#include <unistd.h>

namespace boxrun::trace {

void Tracer::line(const std::string& text) const {
  const std::string whole = text + '\n';
  (void)!write(sink_.get(), whole.data(), whole.size());
}

}  // namespace boxrun::trace
