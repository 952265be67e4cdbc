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

static int load_file = -1, timers_file = -1;

static uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC_RAW); }

bool quiet_begin(void) {
  load_file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
  timers_file = open("/proc/timer_list", O_RDONLY | O_CLOEXEC);
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

/* The first expiry of the list on CLOCK_MONOTONIC; UINT64_MAX where there is none, 0 where it is not understood. */
static uint64_t first_expiry(char *text) {
  uint64_t first = UINT64_MAX, offset = 0;
  bool counts = false;
  char *rest = NULL;
  for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
    if (!strncmp(line, "  .offset:", 10)) {
      offset = strtoull(line + 10, NULL, 10);
    } else if (!strncmp(line, " #", 2) && strchr(line, '<')) {
      counts = !is_kernel_s(line);
    } else if (counts && !strncmp(line, " # expires at ", 14)) {
      uint64_t expiry = strtoull(line + 14, NULL, 10);
      counts = false;
      if (expiry < offset) return 0;
      if (expiry - offset < first) first = expiry - offset;
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
  /* A timer that ran off while the list was made is not in it, but whom it woke is runnable now. */
  if (others_run()) return 0;
  uint64_t expiry = first_expiry(text), monotonic = clock_ns(CLOCK_MONOTONIC), now = now_ns();
  if (expiry == UINT64_MAX) return UINT64_MAX;
  return expiry <= monotonic ? 0 : now + (expiry - monotonic);
}
