#include "src/cli/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/profile/values.h"

namespace boxrun::cli {

using profile::Error;
using profile::Expected;
using profile::nearest;

namespace {

const Option* find_option(std::string_view name) {
  const std::span<const Option> options = run_options();
  const auto found = std::ranges::find(options, name, &Option::name);
  return found == options.end() ? nullptr : &*found;
}

const Option* find_option(char letter) {
  const std::span<const Option> options = run_options();
  const auto found = std::ranges::find(options, letter, &Option::letter);
  return found == options.end() ? nullptr : &*found;
}

Error unknown_option(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Option& option : run_options()) names.push_back(option.name);
  std::string message = fmt::format("unknown option '--{}'", name);
  if (const std::string_view guess = nearest(name, names); !guess.empty()) {
    message += fmt::format("; did you mean '--{}'?", guess);
  }
  return {message};
}

// Takes words one after the other.
class Words {
 public:
  explicit Words(std::span<char* const> words) : words_(words) {}
  bool empty() const { return words_.empty(); }
  std::string_view front() const { return words_[0]; }
  std::string_view take() {
    const std::string_view word = words_[0];
    words_ = words_.subspan(1);
    return word;
  }

 private:
  std::span<char* const> words_;
};

Expected<bool> needs_value(const Option& option, const std::string& spelled, Words& words,
                           CommandLine& line) {
  if (words.empty()) {
    return Error{fmt::format("option '{}' needs a value: {} {}", spelled, spelled, option.metavar)};
  }
  line.options.push_back({&option, spelled, std::string(words.take())});
  return true;
}

// "--name", "--name=value" or "--name value", without the dashes in `text`.
Expected<bool> take_long(std::string_view text, Words& words, CommandLine& line) {
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const Option* option = find_option(name);
  if (option == nullptr) return unknown_option(name);
  const std::string spelled = fmt::format("--{}", name);
  if (equals != std::string_view::npos) {
    if (option->argument == Argument::kNone) {
      return Error{fmt::format("option '{}' takes no value", spelled)};
    }
    line.options.push_back({option, spelled, std::string(text.substr(equals + 1))});
    return true;
  }
  if (option->argument == Argument::kRequired) return needs_value(*option, spelled, words, line);
  line.options.push_back({option, spelled, {}});
  return true;
}

// "-q", "-qv", "-m 1G" or "-m1G", without the dash in `text`.
Expected<bool> take_short(std::string_view text, Words& words, CommandLine& line) {
  while (!text.empty()) {
    const Option* option = find_option(text[0]);
    const std::string spelled = fmt::format("-{}", text[0]);
    if (option == nullptr) return Error{fmt::format("unknown option '{}'", spelled)};
    text.remove_prefix(1);
    if (option->argument == Argument::kNone) {
      line.options.push_back({option, spelled, {}});
      continue;
    }
    if (text.empty()) return needs_value(*option, spelled, words, line);
    line.options.push_back({option, spelled, std::string(text)});
    return true;
  }
  return true;
}

// What could be read before an error is in `line`.
Expected<bool> read_options(Words& words, CommandLine& line) {
  while (!words.empty()) {
    const std::string_view word = words.front();
    if (word.size() < 2 || word[0] != '-') break;
    words.take();
    if (word == "--") break;
    const Expected<bool> taken = word[1] == '-' ? take_long(word.substr(2), words, line)
                                                : take_short(word.substr(1), words, line);
    if (!taken.ok()) return taken;
  }
  return true;
}

}  // namespace

Expected<CommandLine> parse_command_line(std::span<char* const> arguments) {
  CommandLine line;
  Words words(arguments);
  const Expected<bool> read = read_options(words, line);
  if (!read.ok()) return read.error();
  while (!words.empty()) line.words.emplace_back(words.take());
  return line;
}

int status_fd_of(std::span<char* const> arguments) {
  CommandLine line;
  Words words(arguments);
  static_cast<void>(read_options(words, line));
  Request request;
  for (const Given& given : line.options) {
    if (given.option->name == "status-fd") {
      static_cast<void>(given.option->apply(given.value, request));
    }
  }
  return request.status_fd;
}

std::vector<profile::Located> named_profiles(const CommandLine& line) {
  std::vector<profile::Located> names;
  for (const Given& given : line.options) {
    if (given.option->name == "profile") names.push_back({given.value, given.spelled});
  }
  return names;
}

Expected<bool> apply_options(const CommandLine& line, Request& request) {
  for (const Given& given : line.options) {
    const Expected<bool> applied = given.option->apply(given.value, request);
    if (!applied.ok()) {
      return Error{fmt::format("option '{}': {}", given.spelled, applied.error().message)};
    }
  }
  return true;
}

}  // namespace boxrun::cli
