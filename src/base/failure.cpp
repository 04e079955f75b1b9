#include "src/base/failure.h"

#include <cstring>

namespace boxrun {

std::string to_string(const Failure& failure) {
  std::string text = "cannot " + failure.what;
  if (failure.error != Errno::kOk) {
    const char* description = strerrordesc_np(static_cast<int>(failure.error));
    text += std::string(": ") + (description != nullptr ? description : "unknown error");
  }
  if (!failure.layer.empty()) text += " (" + failure.layer + ")";
  if (!failure.remedy.empty()) text += "; " + failure.remedy;
  return text;
}

}  // namespace boxrun
