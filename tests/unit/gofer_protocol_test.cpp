#include <array>
#include <string>
#include <vector>

#include "gofer/hide.h"
#include "gofer/protocol_boxrun.h"
#include "tests/unit/test.h"

using namespace boxrun;
using namespace boxrun::gofer;

namespace {

std::vector<std::byte> encoded(const auto& message) {
  std::vector<std::byte> room(kMaxMessage);
  Encoder out(room);
  REQUIRE(encode(out, 7, message));
  room.resize(out.size());
  return room;
}

// Encodes, decodes and encodes again; every shorter and every longer packet must be refused.
template <class Message>
void round_trip(const Message& message) {
  const std::vector<std::byte> packet = encoded(message);
  Decoder decoder(packet);
  const Result<Frame> frame = next_frame(decoder);
  REQUIRE(frame.ok());
  CHECK(decoder.finished());
  CHECK(frame->type == Message::kType);
  CHECK(frame->tag == 7);
  const Result<Message> decoded = decode<Message>(*frame);
  REQUIRE(decoded.ok());
  CHECK(encoded(*decoded) == packet);
  for (size_t size = 0; size < frame->body.size(); size++) {
    CHECK_FALSE(decode<Message>({frame->type, 7, frame->body.first(size)}).ok());
  }
  std::vector<std::byte> longer(frame->body.begin(), frame->body.end());
  longer.push_back(std::byte{0});
  CHECK_FALSE(decode<Message>({frame->type, 7, longer}).ok());
  // No prefix of a packet is a frame.
  for (size_t size = 0; size < packet.size(); size++) {
    Decoder cut(Data(packet).first(size));
    CHECK_FALSE(next_frame(cut).ok());
  }
  // It does not fit a buffer that is a byte too small, and nothing is written beyond.
  std::vector<std::byte> small(packet.size() - 1);
  Encoder out(small);
  CHECK_FALSE(encode(out, 7, message));
}

Names names(std::initializer_list<std::string_view> list) {
  Names result;
  for (const std::string_view name : list) result.name[result.count++] = name;
  return result;
}

const Qid kQid{QidType::kDir, 0x01020304, 0x1122334455667788};
const Attr kAttr{.valid = kAttrBasic,
                 .qid = kQid,
                 .mode = 0100644,
                 .uid = 1,
                 .gid = 2,
                 .nlink = 3,
                 .rdev = 4,
                 .size = 5,
                 .blksize = 6,
                 .blocks = 7,
                 .atime = {8, 9},
                 .mtime = {10, 11},
                 .ctime = {12, 13},
                 .btime = {14, 15},
                 .gen = 16,
                 .data_version = 17};
const std::array<std::byte, 3> kBytes{std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

TEST_CASE("every message of 9P2000.L survives the wire") {
  Qids qids;
  qids.qid[0] = kQid;
  qids.count = 1;
  round_trip(Rlerror{2});
  round_trip(Tversion{8192, kPlainVersion});
  round_trip(Rversion{8192, kBatchVersion});
  round_trip(Tauth{1, "user", "mount", 1000});
  round_trip(Rauth{kQid});
  round_trip(Tattach{1, kNoFid, "user", "mount", 1000});
  round_trip(Rattach{kQid});
  round_trip(Tflush{9});
  round_trip(Tflush::Reply{});
  round_trip(Twalk{1, 2, names({"a", "bc", ""})});
  round_trip(Rwalk{qids});
  round_trip(Tclunk{1});
  round_trip(Tclunk::Reply{});
  round_trip(Tremove{1});
  round_trip(Tremove::Reply{});
  round_trip(Tstatfs{1});
  round_trip(Rstatfs{1, 2, 3, 4, 5, 6, 7, 8, 9});
  round_trip(Tlopen{1, 2});
  round_trip(Rlopen{kQid, 3});
  round_trip(Tlcreate{1, "name", 2, 3, 4});
  round_trip(Rlcreate{kQid, 5});
  round_trip(Tsymlink{1, "name", "target", 2});
  round_trip(Tsymlink::Reply{kQid});
  round_trip(Tmknod{1, "name", 2, 3, 4, 5});
  round_trip(Tmknod::Reply{kQid});
  round_trip(Tmkdir{1, "name", 2, 3});
  round_trip(Tmkdir::Reply{kQid});
  round_trip(Trename{1, 2, "name"});
  round_trip(Trename::Reply{});
  round_trip(Trenameat{1, "old", 2, "new"});
  round_trip(Trenameat::Reply{});
  round_trip(Tunlinkat{1, "name", 0x200});
  round_trip(Tunlinkat::Reply{});
  round_trip(Tlink{1, 2, "name"});
  round_trip(Tlink::Reply{});
  round_trip(Treadlink{1});
  round_trip(Rreadlink{"target"});
  round_trip(Tgetattr{1, kAttrBasic});
  round_trip(Rgetattr{kAttr});
  round_trip(Tsetattr{1, 2, 3, 4, 5, 6, {7, 8}, {9, 10}});
  round_trip(Tsetattr::Reply{});
  round_trip(Txattrwalk{1, 2, "user.x"});
  round_trip(Rxattrwalk{3});
  round_trip(Txattrcreate{1, "user.x", 2, 3});
  round_trip(Txattrcreate::Reply{});
  round_trip(Treaddir{1, 2, 3});
  round_trip(Rreaddir{kBytes});
  round_trip(Tread{1, 2, 3});
  round_trip(Rread{kBytes});
  round_trip(Twrite{1, 2, kBytes});
  round_trip(Rwrite{3});
  round_trip(Tfsync{1, 1});
  round_trip(Tfsync::Reply{});
  round_trip(Tlock{1, LockType::kWrite, 2, 3, 4, 5, "me"});
  round_trip(Rlock{LockStatus::kBlocked});
  round_trip(Tgetlock{1, LockType::kRead, 2, 3, 4, "me"});
  round_trip(Rgetlock{LockType::kUnlock, 2, 3, 4, "me"});
}

TEST_CASE("every message of the extension survives the wire") {
  round_trip(Rdenied{2, Rule::kHidden});
  round_trip(Tas{1000});
  round_trip(Tas::Reply{});
  round_trip(Tstat{1});
  round_trip(Rstat{kAttr, "target"});
  round_trip(Topen{1, 2, 3});
  round_trip(Ropen{1});
  round_trip(Tcreate{1, 2, "name", 3, 4, 5});
  round_trip(Rcreate{kAttr});
  round_trip(Treaddirplus{1, 2, 3, 1});
  round_trip(Rreaddirplus{1, kBytes});
  round_trip(Trenameat2{1, "old", 2, "new", 3});
  round_trip(Trenameat2::Reply{});
}

TEST_CASE("numbers have the layout that other implementations use") {
  // size[4] type[1] tag[2] fid[4] offset[8] count[4], least significant byte first.
  const std::vector<std::byte> packet = encoded(Tread{0x04030201, 0x0c0b0a0908070605, 0x100f0e0d});
  REQUIRE(packet.size() == 23);
  CHECK(packet[0] == std::byte{23});
  CHECK(packet[4] == std::byte{116});
  CHECK(packet[5] == std::byte{7});
  for (size_t i = 0; i < 16; i++) CHECK(packet[7 + i] == static_cast<std::byte>(i + 1));
}

TEST_CASE("more names than the protocol allows are refused") {
  std::vector<std::byte> body;
  const auto put16 = [&](uint16_t v) {
    body.push_back(static_cast<std::byte>(v & 0xff));
    body.push_back(static_cast<std::byte>(v >> 8));
  };
  for (int i = 0; i < 8; i++) body.push_back(std::byte{1});
  put16(17);
  for (int i = 0; i < 17; i++) put16(0);
  CHECK_FALSE(decode<Twalk>({Type::kTwalk, 0, body}).ok());
}

TEST_CASE("names that are no names, and errors that are no errors") {
  CHECK(valid_name("a"));
  CHECK(valid_name("..."));
  CHECK(valid_name(std::string(255, 'x')));
  for (const std::string_view bad : {"", ".", "..", "a/b", "/"}) CHECK_FALSE(valid_name(bad));
  CHECK_FALSE(valid_name(std::string_view("a\0b", 3)));
  CHECK_FALSE(valid_name(std::string(256, 'x')));
  CHECK(peer_errno(2) == Errno::kNoEnt);
  // Restart codes must not be had from outside.
  for (const uint32_t bad : {0u, 512u, 516u, 4096u, 0xffffffffu}) {
    CHECK(peer_errno(bad) == Errno::kIo);
  }
}

TEST_CASE("globs") {
  CHECK(glob_matches("*", ""));
  CHECK(glob_matches("*.pem", "a.pem"));
  CHECK(glob_matches("*.pem", ".pem"));
  CHECK_FALSE(glob_matches("*.pem", "a.pem2"));
  CHECK(glob_matches("id_*", "id_rsa"));
  CHECK(glob_matches("?b*d?f", "abccdef"));
  CHECK(glob_matches("[a-c]x", "bx"));
  CHECK_FALSE(glob_matches("[!a-c]x", "bx"));
  CHECK(glob_matches("[]]", "]"));
  CHECK(glob_matches("[", "["));
  CHECK(glob_matches("\\*", "*"));
  CHECK_FALSE(glob_matches("\\*", "x"));
  CHECK(glob_matches("", ""));
  CHECK_FALSE(glob_matches("", "x"));
  // Many stars stay cheap.
  CHECK_FALSE(glob_matches("*a*a*a*a*a*a*a*a*b", std::string(255, 'a')));
}

TEST_CASE("hide patterns follow names") {
  const std::vector<std::string> globs{"/home/u/.ssh", "**/.env", "/home/*/deep/**", "/srv/**/key"};
  const HidePatterns patterns = HidePatterns::create(globs).take();
  const auto hidden = [&](std::string_view root, std::initializer_list<std::string_view> path) {
    Ref<HideState> state = patterns.root_state(root);
    for (const std::string_view name : path) state = patterns.step(state, name);
    return state->hidden();
  };
  CHECK(hidden("/home/u", {".ssh"}));
  CHECK(hidden("/home/u", {".ssh", "id"}));
  CHECK(hidden("/", {"home", "u", ".ssh"}));
  CHECK_FALSE(hidden("/home/v", {".ssh"}));
  CHECK_FALSE(hidden("/home/u", {"x", ".ssh"}));
  CHECK(hidden("/work", {".env"}));
  CHECK(hidden("/work", {"a", "b", ".env"}));
  CHECK_FALSE(hidden("/work", {"env"}));
  CHECK_FALSE(hidden("/home/u", {"deep"}));
  CHECK(hidden("/home/u", {"deep", "x"}));
  CHECK(hidden("/home/u/deep/x", {}));
  CHECK(hidden("/srv", {"key"}));
  CHECK(hidden("/srv", {"a", "b", "key"}));
  CHECK_FALSE(HidePatterns::create(std::vector<std::string>{""}).ok());
  CHECK_FALSE(HidePatterns::create(std::vector<std::string>{"/"}).ok());
  // A place for a mount is there, and nothing in it.
  const std::vector<std::string> shown{"/home/u/.ssh", "/work/a/.env/*"};
  const HidePatterns with_place = HidePatterns::create(globs, shown).take();
  const auto seen = [&](std::string_view root, std::initializer_list<std::string_view> path) {
    Ref<HideState> at = with_place.root_state(root);
    for (const std::string_view name : path) at = with_place.step(at, name);
    return !at->hidden();
  };
  CHECK(seen("/home/u", {".ssh"}));
  CHECK(seen("/", {"home", "u", ".ssh"}));
  CHECK_FALSE(seen("/home/u", {".ssh", "id"}));
  CHECK_FALSE(seen("/home/u", {".ssh", "id", "x"}));
  CHECK_FALSE(seen("/home/u/.ssh/id", {}));
  CHECK_FALSE(seen("/work", {"a", ".env"}));
  CHECK_FALSE(seen("/work", {"a", ".env", "x"}));  // paths are no globs
  CHECK_FALSE(seen("/srv", {"key"}));
  // Relative to the mount's root.
  const std::vector<std::string> relative{"secret/*.key"};
  const HidePatterns in_mount = HidePatterns::create(relative).take();
  Ref<HideState> state = in_mount.step(in_mount.root_state("/any/where"), "secret");
  CHECK_FALSE(state->hidden());
  CHECK(in_mount.step(state, "a.key")->hidden());
}
