/* The lock-step agent: runs in the concentrator's guest, and meets the simulator by semihosting.
 *
 * It is what the daemon's serial lines, its ways to the broker and its network end at. At each meeting it hands over
 * what the guest has sent, and is given what it receives and how far it may run; see docs/dev/lockstep.md.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { LOOK_INTERVAL_NS = 10 * 1000 * 1000, LONG_SLEEP_NS = 1000 * 1000 * 1000, ENTROPY_BYTES = 32 };

struct totals totals;
static struct message incoming, outgoing;

static struct timespec as_timespec(uint64_t time_ns) {
  return (struct timespec){time_ns / 1000000000ull, time_ns % 1000000000ull};
}

/* The kernel sleeps by a clock that may be slewed, and the protocol's is not: of a long sleep, nearly all, then the rest. */
static struct timespec next_sleep(uint64_t left_ns) {
  return as_timespec(left_ns > LONG_SLEEP_NS ? left_ns - left_ns / 1000 : left_ns);
}

static void sleep_until(uint64_t time_ns) {
  for (uint64_t now = now_ns(); now < time_ns; now = now_ns()) {
    struct timespec left = next_sleep(time_ns - now);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &left, NULL);
  }
}

/* How many descriptors are polled, and from which on they are not the lines' but of the part so named. */
struct watched {
  size_t uplink, network, count;
};

static struct watched watch(struct pollfd *polled) {
  struct watched watched = {.uplink = lines_poll(polled)};
  watched.network = watched.uplink + uplink_poll(polled + watched.uplink);
  watched.count = watched.network + network_poll(polled + watched.network);
  return watched;
}

static bool take(const struct pollfd *polled, struct watched watched, struct message *into) {
  bool any = lines_collect(polled, watched.uplink, into);
  any |= uplink_collect(polled + watched.uplink, watched.network - watched.uplink, into);
  return any | network_collect(polled + watched.network, watched.count - watched.network, into);
}

/* Put what came into a report. Whether anything did; waits for it until `until_ns`. */
static bool collect(struct message *into, uint64_t until_ns) {
  struct pollfd polled[MAX_POLLED];
  for (;;) {
    bool is_flushed = lines_flush() & uplink_flush();
    struct watched watched = watch(polled);
    uint64_t now = now_ns();
    struct timespec left = now < until_ns ? next_sleep(until_ns - now) : as_timespec(0);
    int ready = ppoll(polled, watched.count, &left, NULL);
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0) {
      if (take(polled, watched, into)) return true;
      if (!is_flushed) continue;
    }
    if (now_ns() >= until_ns) return false;
  }
}

static bool has_output(void) {
  struct pollfd polled[MAX_POLLED];
  size_t count = watch(polled).count;
  for (size_t i = 0; i < count; i++) polled[i].events = POLLIN;
  return poll(polled, count, 0) > 0;
}

static void deliver(const struct message *from, size_t fixed_bytes) {
  const struct head *head = message_head(from);
  const uint8_t *place = from->bytes + sizeof *head + fixed_bytes, *limit = from->bytes + from->size;
  for (unsigned i = 0; i < head->records && place + sizeof(struct record) <= limit; i++) {
    struct record record;
    memcpy(&record, place, sizeof record);
    place += sizeof record;
    if (record.size_bytes > (size_t)(limit - place)) return;
    if (record.channel == CHANNEL_SATELLITE || record.channel == CHANNEL_CELLULAR)
      uplink_deliver(record.event, record.connection, place, record.size_bytes);
    else if (record.channel == CHANNEL_NETWORK)
      network_deliver(place, record.size_bytes);
    else if (record.event == EVENT_DATA)
      lines_deliver(record.channel, place, record.size_bytes);
    place += record.size_bytes;
  }
}

/* Two runs that begin at one snapshot must not draw the same keys. */
static bool stir_entropy(const struct message *welcome) {
  struct {
    int bits, bytes;
    uint8_t data[ENTROPY_BYTES];
  } pool = {ENTROPY_BYTES * 8, ENTROPY_BYTES, {0}};
  if (welcome->size < sizeof(struct head) + sizeof(struct record) + ENTROPY_BYTES) return false;
  memcpy(pool.data, welcome->bytes + welcome->size - ENTROPY_BYTES, ENTROPY_BYTES);
  int device = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
  bool is_done = device >= 0 && ioctl(device, RNDADDENTROPY, &pool) == 0 && ioctl(device, RNDRESEEDCRNG) == 0;
  if (device >= 0) close(device);
  return is_done;
}

static bool send_report(bool is_output, uint32_t late_ns) {
  struct report report = {.late_ns = late_ns};
  if (!is_output && lines_flush() & uplink_flush()) report.quiet_until_ns = quiet_until_ns();
  report.delivered_bytes = totals.delivered_bytes;
  report.collected_bytes = totals.collected_bytes;
  report.dropped_bytes = totals.dropped_bytes;
  report.broken_quiets = totals.broken_quiets;
  report.time_ns = now_ns();
  memcpy(outgoing.bytes + sizeof(struct head), &report, sizeof report);
  return host_send(&outgoing);
}

static void begin_report(void) {
  struct report empty = {0};
  message_begin(&outgoing, KIND_REPORT, &empty, sizeof empty);
}

static bool carry_out(const struct grant *grant) {
  begin_report();
  if (now_ns() < grant->deliver_ns) {
    sleep_until(grant->deliver_ns);
    if (has_output()) totals.broken_quiets++;
  }
  uint64_t late_ns = message_head(&incoming)->records ? now_ns() - grant->deliver_ns : 0;
  deliver(&incoming, sizeof *grant);
  bool is_output = collect(&outgoing, grant->until_ns);
  return send_report(is_output, late_ns > UINT32_MAX ? UINT32_MAX : late_ns);
}

static bool greet(void) {
  uint64_t time_ns = now_ns();
  message_begin(&outgoing, KIND_HELLO, &time_ns, sizeof time_ns);
  if (!host_send(&outgoing) || !host_receive(&incoming)) return false;
  const struct head *head = message_head(&incoming);
  if (head->version != PROTOCOL_VERSION || head->kind != KIND_WELCOME) {
    fprintf(stderr, "lockstep: the simulator speaks version %u, this agent %u\n", head->version, PROTOCOL_VERSION);
    return false;
  }
  begin_report();
  if (!stir_entropy(&incoming)) message_note(&outgoing, "the simulator's entropy cannot be used");
  return send_report(false, 0);
}

/* Until the host goes, or asks to be left until a time: then that time, otherwise now. */
static uint64_t converse(void) {
  uint64_t until_ns;
  memset(&totals, 0, sizeof totals);
  uplink_reset();
  if (!greet()) return now_ns();
  while (host_receive(&incoming)) {
    const struct head *head = message_head(&incoming);
    const void *fixed = incoming.bytes + sizeof *head;
    struct grant grant;
    if (head->version == PROTOCOL_VERSION && head->kind == KIND_GRANT && head->body_bytes >= sizeof grant) {
      memcpy(&grant, fixed, sizeof grant);
      if (!carry_out(&grant)) break;
    } else if (head->kind == KIND_DETACH && head->body_bytes >= sizeof until_ns) {
      memcpy(&until_ns, fixed, sizeof until_ns);
      return until_ns;
    } else {
      fprintf(stderr, "lockstep: a message of kind %u, version %u is not understood\n", head->kind, head->version);
      break;
    }
  }
  return now_ns();
}

/* Goes on in a process of its own once its lines are there: who started it may use them when it returns. */
static int serve(void) {
  struct sched_param urgent = {.sched_priority = 50};
  setsid();
  /* The emulator reads and writes these pages by address; and nothing of the guest may keep the agent waiting. */
  if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0 || sched_setscheduler(0, SCHED_FIFO, &urgent) < 0)
    return perror("lockstep"), 1;
  for (;;) {
    switch (host_open()) {
    case HOST_IMPOSSIBLE:
      fprintf(stderr, "lockstep: this machine has no semihosting\n");
      return 2;
    case HOST_ABSENT:
      sleep_until(now_ns() + LOOK_INTERVAL_NS);
      break;
    case HOST_FOUND: {
      uint64_t until_ns = converse(), soon_ns = now_ns() + LOOK_INTERVAL_NS;
      host_close();
      sleep_until(until_ns > soon_ns ? until_ns : soon_ns);
    }
    }
  }
}

int main(void) {
  if (!quiet_begin() || !lines_begin() || !uplink_begin() || !network_begin()) return perror("lockstep: lines"), 1;
  pid_t child = fork();
  if (child < 0) return perror("lockstep"), 1;
  return child == 0 ? serve() : 0;
}
