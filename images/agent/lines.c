/* Serial lines: a pty for each, under a name that does not change. The shell is started when it is first spoken to. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sched.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "agent.h"

#define FOLDER "/dev/lockstep"

struct line {
  enum channel channel;
  const char *name;
  int master, slave; /* the slave stays open, so that the line is never hung up */
  struct queue queue;
};

static struct line lines[] = {
    {CHANNEL_RADIO, "radio", -1, -1, {0}}, {CHANNEL_MAINTENANCE, "maintenance", -1, -1, {0}},
    {CHANNEL_GPS, "gps", -1, -1, {0}},     {CHANNEL_MODEM, "modem", -1, -1, {0}},
    {CHANNEL_SHELL, "shell", -1, -1, {0}}, {CHANNEL_TRACE, "trace", -1, -1, {0}},
};
enum { LINES = sizeof lines / sizeof lines[0] };

static bool open_line(struct line *line) {
  char place[64], target[64];
  if (openpty(&line->master, &line->slave, target, NULL, NULL) < 0) return false;
  struct termios settings;
  tcgetattr(line->slave, &settings);
  cfmakeraw(&settings);
  tcsetattr(line->slave, TCSANOW, &settings);
  fcntl(line->master, F_SETFL, O_NONBLOCK);
  fcntl(line->master, F_SETFD, FD_CLOEXEC);
  fcntl(line->slave, F_SETFD, FD_CLOEXEC);
  snprintf(place, sizeof place, FOLDER "/%s", line->name);
  unlink(place);
  return symlink(target, place) == 0;
}

bool lines_begin(void) {
  mkdir(FOLDER, 0755);
  for (int i = 0; i < LINES; i++)
    if (!open_line(&lines[i])) return false;
  signal(SIGCHLD, SIG_IGN);
  return true;
}

static void start_shell(struct line *line) {
  static bool is_started;
  if (is_started) return;
  is_started = true;
  if (fork() != 0) return;
  struct sched_param ordinary = {0};
  sched_setscheduler(0, SCHED_OTHER, &ordinary);
  setsid();
  signal(SIGCHLD, SIG_DFL);
  ioctl(line->slave, TIOCSCTTY, 0);
  for (int i = 0; i < 3; i++) dup2(line->slave, i);
  execl("/bin/sh", "sh", "-l", (char *)NULL);
  _exit(127);
}

size_t lines_poll(struct pollfd *polled) {
  for (int i = 0; i < LINES; i++)
    polled[i] = (struct pollfd){lines[i].master, POLLIN | (lines[i].queue.size ? POLLOUT : 0), 0};
  return LINES;
}

bool lines_collect(const struct pollfd *polled, size_t count, struct message *into) {
  static uint8_t data[4096];
  bool any = false;
  for (size_t i = 0; i < count && i < LINES; i++) {
    if (!(polled[i].revents & POLLIN) || message_room(into) < sizeof data) continue;
    ssize_t size = read(lines[i].master, data, sizeof data);
    if (size <= 0) continue;
    message_add(into, lines[i].channel, EVENT_DATA, 0, data, size);
    totals.collected_bytes += size;
    any = true;
  }
  return any;
}

void lines_deliver(enum channel channel, const void *data, size_t size) {
  for (int i = 0; i < LINES; i++) {
    if (lines[i].channel != channel) continue;
    if (channel == CHANNEL_SHELL) start_shell(&lines[i]);
    totals.dropped_bytes += size - queue_put(&lines[i].queue, data, size);
  }
}

bool lines_flush(void) {
  bool is_empty = true;
  for (int i = 0; i < LINES; i++)
    is_empty &= queue_flush(&lines[i].queue, lines[i].master, &totals.delivered_bytes);
  return is_empty;
}
