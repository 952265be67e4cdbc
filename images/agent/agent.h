/* The parts of the agent. Each is told to begin once; all of them live in one thread. */
#pragma once
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum { MAX_POLLED = 24 };

/* message.c: one message that is being put together or taken apart */
struct message {
  uint8_t bytes[MESSAGE_BYTES];
  size_t size;
};
void message_begin(struct message *message, enum kind kind, const void *fixed, size_t fixed_bytes);
size_t message_room(const struct message *message); /* bytes of data that one more record may have */
void message_add(struct message *message, enum channel channel, enum event event, unsigned connection, const void *data,
                 size_t size);
void message_note(struct message *message, const char *text);
const struct head *message_head(const struct message *message);

/* host.c: the pipes to the simulator, by semihosting */
enum host_state { HOST_FOUND, HOST_ABSENT, HOST_IMPOSSIBLE };
enum host_state host_open(void);
void host_close(void);
bool host_send(const struct message *message);
bool host_receive(struct message *message); /* the guest's time stands still until the simulator answers */

/* queue.c: bytes on their way to a descriptor that is not blocking */
struct queue {
  uint8_t *bytes;
  size_t start, size;
};
size_t queue_put(struct queue *queue, const void *data, size_t size); /* what was taken */
bool queue_flush(struct queue *queue, int descriptor, uint64_t *written);

/* lines.c: serial lines and the shell, as ptys */
bool lines_begin(void);
size_t lines_poll(struct pollfd *polled);
bool lines_collect(const struct pollfd *polled, size_t count, struct message *into);
void lines_deliver(enum channel channel, const void *data, size_t size);
bool lines_flush(void); /* whether nothing waits any more */

/* uplink.c: the loopback port that stands for the way to the broker */
bool uplink_begin(void);
size_t uplink_poll(struct pollfd *polled);
bool uplink_collect(const struct pollfd *polled, size_t count, struct message *into);
void uplink_deliver(enum event event, unsigned connection, const void *data, size_t size);
bool uplink_flush(void);
void uplink_reset(void); /* another host: connections of the old one are cut */

/* network.c: an interface whose packets the simulator carries */
bool network_begin(void);
size_t network_poll(struct pollfd *polled);
bool network_collect(const struct pollfd *polled, size_t count, struct message *into);
void network_deliver(const void *packet, size_t size);

/* quiet.c: when a process of the guest runs next */
bool quiet_begin(void);
uint64_t quiet_until_ns(void); /* 0 where one runs now, or where it is not known */
uint64_t now_ns(void);

/* Totals since the conversation began. */
struct totals {
  uint64_t delivered_bytes, collected_bytes;
  uint32_t dropped_bytes, broken_quiets;
};
extern struct totals totals;
