#include "src/base/failure.h"

#include "src/base/errno_text.h"

namespace boxrun {

std::string to_string(const Failure& failure) {
  std::string text = "cannot " + failure.what;
  if (failure.error != Errno::kOk) {
    text += std::string(": ") + errno_text(failure.error);
  }
  if (!failure.layer.empty()) text += " (" + failure.layer + ")";
  if (!failure.remedy.empty()) text += "; " + failure.remedy;
  return text;
}

}  // namespace boxrun
