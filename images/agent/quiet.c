/* When does a process of the guest run next? Nobody runs now if /proc/loadavg counts one runnable task, this one; and
 * nobody will before the first high-resolution timer of /proc/timer_list that wakes a process.
 *
 * What the kernel does by itself in between (its tick, work queues) reaches no device of ours.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#ifndef LOAD_FILE
#define LOAD_FILE "/proc/loadavg"
#endif
#ifndef TIMERS_FILE
#define TIMERS_FILE "/proc/timer_list"
#endif

static int load_file = -1, timers_file = -1;

static uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC_RAW); }

bool quiet_begin(void) {
  load_file = open(LOAD_FILE, O_RDONLY | O_CLOEXEC);
  timers_file = open(TIMERS_FILE, O_RDONLY | O_CLOEXEC);
  return load_file >= 0 && timers_file >= 0;
}

static bool others_run(void) {
  char text[128];
  ssize_t size = pread(load_file, text, sizeof text - 1, 0);
  if (size <= 0) return true;
  text[size] = 0;
  /* 0.00 0.01 0.05 RUNNING/TASKS LAST_PID */
  char *place = text;
  for (int field = 0; field < 3 && place; field++) place = strchr(place + (field > 0), ' ');
  return !place || strtoul(place + 1, NULL, 10) != 1;
}

static bool is_kernel_s(const char *line) {
  return strstr(line, ", tick_sched_timer,") || strstr(line, ", sched_rt_period_timer,");
}

/* On CLOCK_MONOTONIC; UINT64_MAX where there is none. A timer may run off from its first expiry on, and does by its last. */
struct expiries {
  uint64_t waking; /* the first expiry of those that wake a process */
  uint64_t any;    /* the last expiry of whichever is next */
};

static uint64_t monotonic_of(uint64_t expiry, uint64_t offset) { return expiry < offset ? 0 : expiry - offset; }

static struct expiries first_expiries(char *text) {
  struct expiries first = {UINT64_MAX, UINT64_MAX};
  uint64_t offset = 0;
  bool wakes = false;
  char *rest = NULL;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (!strncmp(line, "  .offset:", 10)) {
      offset = strtoull(line + 10, NULL, 10);
    } else if (!strncmp(line, " #", 2) && strchr(line, '<')) {
      wakes = !is_kernel_s(line);
    } else if (!strncmp(line, " # expires at ", 14)) {
      char *dash;
      uint64_t expiry = monotonic_of(strtoull(line + 14, &dash, 10), offset);
      uint64_t limit = *dash == '-' ? monotonic_of(strtoull(dash + 1, NULL, 10), offset) : expiry;
      if (limit < first.any) first.any = limit;
      if (wakes && expiry < first.waking) first.waking = expiry;
      wakes = false;
    } else if (!strncmp(line, "Tick Device", 11)) {
      break;
    }
  }
  return first;
}

uint64_t quiet_until_ns(void) {
  static char text[64 * 1024];
  if (others_run()) return 0;
  ssize_t size = 0, more;
  while ((more = pread(timers_file, text + size, sizeof text - 1 - size, size)) > 0) size += more;
  if (size <= 0 || (size_t)size >= sizeof text - 1) return 0;
  text[size] = 0;
  /* A timer that ran off while the list was made is perhaps not in it, but whom it woke is runnable now. */
  if (others_run()) return 0;
  struct expiries first = first_expiries(text);
  uint64_t monotonic = clock_ns(CLOCK_MONOTONIC), now = now_ns();
  /* The kernel makes the list timer by timer, by number: one that runs off meanwhile, be it the tick, moves the others
   * up, and the next of them is left out. Such a list is not believed; nor is it made again, which would take so long
   * that what the host delivers is late. */
  if (first.any <= monotonic || first.waking <= monotonic) return 0;
  return first.waking == UINT64_MAX ? UINT64_MAX : now + (first.waking - monotonic);
}
