// The option table of `run`, and the parser that reads a command line by it. The table is the only
// place where an option is written down: parsing, --help and the check of the manual page use it.
//
// No library parses options here: they stop at the first word that is none (what follows belongs to
// the target), unknown ones get a suggestion, and start-up has no time to build a parser object.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/request.h"
#include "src/profile/expected.h"

namespace boxrun::cli {

enum class Argument : uint8_t {
  kNone,
  kRequired,
  kOptional,  // only as --name=value
};

struct Option {
  char letter;            // 0 without a short form
  std::string_view name;  // without the dashes
  Argument argument;
  std::string_view metavar;  // PATH[:DST]
  std::string_view help;     // one line
  std::string_view group;    // heading in --help
  // Lays the value over the request; the words of an error do not name the option.
  profile::Expected<bool> (*apply)(std::string_view value, Request& request);
};

// Every option of `run`, in the order of --help.
std::span<const Option> run_options();

// One option as it was given: "--memory" and "1G".
struct Given {
  const Option* option;
  std::string spelled;  // as the person wrote it: "-m"
  std::string value;
};

struct CommandLine {
  std::vector<Given> options;
  std::vector<std::string> words;  // from the first word that is no option on, or after "--"
};

// Reads options up to the first other word. Errors are for the user, ready to print.
profile::Expected<CommandLine> parse_command_line(std::span<char* const> arguments);

// The descriptor of --status-fd, also where a later word cannot be read; -1: none.
int status_fd_of(std::span<char* const> arguments);

// The values of every --profile, in order.
std::vector<profile::Located> named_profiles(const CommandLine& line);

// Lays the options over a request that holds the profile already.
profile::Expected<bool> apply_options(const CommandLine& line, Request& request);

}  // namespace boxrun::cli
