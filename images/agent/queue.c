#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

enum { QUEUE_BYTES = 256 * 1024 };

size_t queue_put(struct queue *queue, const void *data, size_t size) {
  if (!queue->bytes) queue->bytes = malloc(QUEUE_BYTES);
  if (!queue->bytes) return 0;
  if (queue->start) {
    memmove(queue->bytes, queue->bytes + queue->start, queue->size);
    queue->start = 0;
  }
  if (size > QUEUE_BYTES - queue->size) size = QUEUE_BYTES - queue->size;
  memcpy(queue->bytes + queue->size, data, size);
  queue->size += size;
  return size;
}

bool queue_flush(struct queue *queue, int descriptor, uint64_t *written) {
  while (queue->size) {
    ssize_t taken = write(descriptor, queue->bytes + queue->start, queue->size);
    if (taken <= 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (taken <= 0) taken = queue->size; /* the peer is gone: nobody waits for it */
    queue->start += taken;
    queue->size -= taken;
    *written += taken;
  }
  queue->start = 0;
  return true;
}
