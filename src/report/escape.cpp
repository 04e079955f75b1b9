#include "src/report/escape.h"

#include <fmt/format.h>

#include <cstdint>

namespace boxrun::report {
namespace {

constexpr uint32_t kInvalid = UINT32_MAX;

struct Character {
  uint32_t code;  // kInvalid for a byte that begins no well-formed sequence
  size_t size;    // in bytes, 1 for kInvalid
};

// The first character of `text`, by the Unicode Standard's table of well-formed byte sequences
// (3-7): no overlong forms, no surrogates, nothing beyond U+10FFFF.
Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {kInvalid, 1};
  uint32_t code = lead & (0x7fU >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {kInvalid, 1};
    code = code << 6 | (byte(i) & 0x3fU);
  }
  const bool overlong = (size == 3 && code < 0x800) || (size == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  if (overlong || surrogate || code > 0x10ffff) return {kInvalid, 1};
  return {code, size};
}

// Controls (C0, DEL, C1), and what a reader cannot see or what reorders what he sees: zero-width
// characters, line and paragraph separators, bidirectional controls, the byte order mark, tags.
bool is_deceptive(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad || code == 0x61c ||
         (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2060 && code <= 0x206f) || code == 0xfeff ||
         (code >= 0xfff9 && code <= 0xfffb) || (code >= 0xe0000 && code <= 0xe0fff);
}

std::string escaped(uint32_t code) {
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  return code < 0x80 ? fmt::format("\\x{:02x}", code) : fmt::format("\\u{{{:x}}}", code);
}

template <class Escape>
std::string transform(std::string_view text, Escape escape) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    if (c.code == kInvalid) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[0]));
    } else {
      escape(c.code, text.substr(0, c.size), out);
    }
    text.remove_prefix(c.size);
  }
  return out;
}

bool is_plain_in_shell(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_-./:@%+=,").find(c) != std::string_view::npos;
}

}  // namespace

std::string escape_text(std::string_view text) {
  return transform(text, [](uint32_t code, std::string_view bytes, std::string& out) {
    if (is_deceptive(code)) {
      out += escaped(code);
    } else {
      out += bytes;
    }
  });
}

std::string valid_utf8(std::string_view text) {
  return transform(text, [](uint32_t, std::string_view bytes, std::string& out) { out += bytes; });
}

std::string shell_word(std::string_view text) {
  std::string prefix;
  if (text.starts_with("~/")) {
    prefix = "~/";
    text.remove_prefix(2);
  }
  bool plain = !text.empty() || !prefix.empty();
  bool printable = true;
  for (std::string_view rest = text; !rest.empty();) {
    const Character c = first_character(rest);
    plain = plain && c.size == 1 && c.code != kInvalid && is_plain_in_shell(rest[0]);
    printable = printable && c.code != kInvalid && !is_deceptive(c.code);
    rest.remove_prefix(c.size);
  }
  if (plain) return prefix + std::string(text);
  std::string out = prefix + (printable ? "'" : "$'");
  for (const char c : text) {
    if (printable) {
      out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    } else if (c < 0x20 || c == 0x7f || c == '\'' || c == '\\') {
      // $'...' of bash, zsh, ksh and POSIX.1-2024; also every byte beyond ASCII, which is negative.
      out += fmt::format("\\{:03o}", static_cast<uint8_t>(c));
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace boxrun::report
