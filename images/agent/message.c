#include <stdio.h>
#include <string.h>

#include "agent.h"

void message_begin(struct message *message, enum kind kind, const void *fixed, size_t fixed_bytes) {
  struct head head = {PROTOCOL_MAGIC, PROTOCOL_VERSION, kind, 0, fixed_bytes};
  memcpy(message->bytes, &head, sizeof head);
  memcpy(message->bytes + sizeof head, fixed, fixed_bytes);
  message->size = sizeof head + fixed_bytes;
}

size_t message_room(const struct message *message) {
  size_t taken = message->size + sizeof(struct record);
  return taken < MESSAGE_BYTES ? MESSAGE_BYTES - taken : 0;
}

void message_add(struct message *message, enum channel channel, enum event event, unsigned connection, const void *data,
                 size_t size) {
  struct record record = {channel, event, connection, size};
  struct head *head = (struct head *)message->bytes;
  memcpy(message->bytes + message->size, &record, sizeof record);
  if (size) memcpy(message->bytes + message->size + sizeof record, data, size);
  message->size += sizeof record + size;
  head->records++;
  head->body_bytes += sizeof record + size;
}

void message_note(struct message *message, const char *text) {
  if (message_room(message) > strlen(text))
    message_add(message, CHANNEL_AGENT, EVENT_NOTE, 0, text, strlen(text));
  fprintf(stderr, "lockstep: %s\n", text);
}

const struct head *message_head(const struct message *message) { return (const struct head *)message->bytes; }
