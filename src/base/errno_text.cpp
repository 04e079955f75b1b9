#include "src/base/errno_text.h"

#include <cstring>

namespace boxrun {

const char* errno_text(Errno e) {
  const char* text = ::strerrordesc_np(static_cast<int>(e));
  return text != nullptr ? text : "unknown error";
}

}  // namespace boxrun
