/* The ways to the broker: ports on the loopback interface. A connection to one goes on over the simulated backhaul. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

enum { WAYS = 2, MAX_CONNECTIONS = 8 };

struct connection {
  int socket; /* -1 where there is none */
  unsigned number;
  enum channel channel;
  bool is_ending; /* the host has closed it: what waits is written first */
  struct queue queue;
};

static struct {
  enum channel channel;
  uint16_t port;
  int listener;
} ways[WAYS] = {{CHANNEL_SATELLITE, 1883, -1}, {CHANNEL_CELLULAR, 1884, -1}};
static struct connection connections[MAX_CONNECTIONS];
static unsigned next_number = 1;

static int listen_at(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, MAX_CONNECTIONS) == 0)
    return listener;
  close(listener);
  return -1;
}

bool uplink_begin(void) {
  for (int i = 0; i < MAX_CONNECTIONS; i++) connections[i].socket = -1;
  for (int i = 0; i < WAYS; i++)
    if ((ways[i].listener = listen_at(ways[i].port)) < 0) return false;
  return true;
}

static void end(struct connection *connection) {
  close(connection->socket);
  totals.delivered_bytes += connection->queue.size; /* to a peer that went away */
  connection->socket = -1;
  connection->is_ending = false;
  connection->queue.size = connection->queue.start = 0;
}

void uplink_reset(void) {
  for (int i = 0; i < MAX_CONNECTIONS; i++)
    if (connections[i].socket >= 0) end(&connections[i]);
}

size_t uplink_poll(struct pollfd *polled) {
  for (int i = 0; i < WAYS; i++) polled[i] = (struct pollfd){ways[i].listener, POLLIN, 0};
  for (int i = 0; i < MAX_CONNECTIONS; i++) {
    short events = POLLIN | (connections[i].queue.size ? POLLOUT : 0);
    polled[WAYS + i] = (struct pollfd){connections[i].socket, events, 0};
  }
  return WAYS + MAX_CONNECTIONS;
}

static bool accept_one(int way, struct message *into) {
  int one = 1, taken = accept4(ways[way].listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (taken < 0) return false;
  for (int i = 0; i < MAX_CONNECTIONS; i++) {
    if (connections[i].socket >= 0) continue;
    setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[i].socket = taken;
    connections[i].channel = ways[way].channel;
    connections[i].number = next_number++;
    message_add(into, connections[i].channel, EVENT_OPEN, connections[i].number, NULL, 0);
    return true;
  }
  close(taken);
  message_note(into, "too many connections to the uplink's port: one is refused");
  return true;
}

static bool collect_one(struct connection *connection, struct message *into) {
  static uint8_t data[16384];
  int one = 1;
  if (message_room(into) < sizeof data) return false;
  ssize_t size = recv(connection->socket, data, sizeof data, 0);
  /* Acknowledged at once: otherwise the kernel's delayed acknowledgement decides when the peer sends again. */
  setsockopt(connection->socket, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
  if (size > 0) {
    message_add(into, connection->channel, EVENT_DATA, connection->number, data, size);
    totals.collected_bytes += size;
  } else {
    if (!connection->is_ending) message_add(into, connection->channel, EVENT_CLOSE, connection->number, NULL, 0);
    end(connection);
  }
  return true;
}

bool uplink_collect(const struct pollfd *polled, size_t count, struct message *into) {
  bool any = false;
  for (size_t i = 0; WAYS + i < count; i++)
    if (connections[i].socket >= 0 && polled[WAYS + i].revents & (POLLIN | POLLHUP | POLLERR))
      any |= collect_one(&connections[i], into);
  for (int i = 0; i < WAYS; i++)
    if (polled[i].revents & POLLIN) any |= accept_one(i, into);
  return any;
}

void uplink_deliver(enum event event, unsigned number, const void *data, size_t size) {
  for (int i = 0; i < MAX_CONNECTIONS; i++) {
    struct connection *connection = &connections[i];
    if (connection->socket < 0 || connection->number != number) continue;
    if (event == EVENT_CLOSE)
      connection->is_ending = true;
    else
      totals.dropped_bytes += size - queue_put(&connection->queue, data, size);
    return;
  }
  if (event == EVENT_DATA) totals.delivered_bytes += size; /* it was closed in the meantime, as by a peer's reset */
}

bool uplink_flush(void) {
  bool is_empty = true;
  for (int i = 0; i < MAX_CONNECTIONS; i++) {
    if (connections[i].socket < 0) continue;
    bool is_done = queue_flush(&connections[i].queue, connections[i].socket, &totals.delivered_bytes);
    if (is_done && connections[i].is_ending) end(&connections[i]);
    is_empty &= is_done;
  }
  return is_empty;
}
