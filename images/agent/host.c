/* Two FIFOs in the emulator's folder, reached by semihosting.
 *
 * A semihosting call from user space is a supervisor call with 0x123456: the emulator does the file operation itself
 * while the virtual processor stands still. Reading a FIFO therefore stops the guest's time until the host answers.
 */
#include <string.h>

#include "agent.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6 };
enum { MODE_READ_BINARY = 1, MODE_WRITE_BINARY = 5 };
enum { NO_SYSTEM_CALL = 1023, ENOSYS_RESULT = -38 };

static long out_handle = -1, in_handle = -1;

static long semihost(long operation, uint32_t a, uint32_t b, uint32_t c) {
  uint32_t block[3] = {a, b, c};
  register long r0 __asm__("r0") = operation;
  register void *r1 __asm__("r1") = block;
  /* Without semihosting this is a system call of the kernel, which takes its number from r7: one that it refuses. */
  register long r7 __asm__("r7") = NO_SYSTEM_CALL;
  __asm__ volatile("svc 0x123456" : "+r"(r0) : "r"(r1), "r"(r7) : "memory", "lr");
  return r0;
}

static long open_pipe(const char *name, int mode) { return semihost(SYS_OPEN, (uint32_t)name, mode, strlen(name)); }

enum host_state host_open(void) {
  static const char out_name[] = "to_host", in_name[] = "to_guest";
  out_handle = open_pipe(out_name, MODE_WRITE_BINARY);
  if (out_handle == ENOSYS_RESULT) return HOST_IMPOSSIBLE;
  if (out_handle < 0) return HOST_ABSENT;
  in_handle = open_pipe(in_name, MODE_READ_BINARY);
  if (in_handle < 0) {
    host_close();
    return HOST_ABSENT;
  }
  return HOST_FOUND;
}

void host_close(void) {
  if (out_handle >= 0) semihost(SYS_CLOSE, out_handle, 0, 0);
  if (in_handle >= 0) semihost(SYS_CLOSE, in_handle, 0, 0);
  out_handle = in_handle = -1;
}

bool host_send(const struct message *message) {
  return semihost(SYS_WRITE, out_handle, (uint32_t)message->bytes, message->size) == 0;
}

/* SYS_READ says how many bytes are missing; a FIFO gives what is in it. */
static bool fill(struct message *message, size_t wanted) {
  while (message->size < wanted) {
    size_t asked = wanted - message->size;
    long missing = semihost(SYS_READ, in_handle, (uint32_t)(message->bytes + message->size), asked);
    if (missing < 0 || (size_t)missing >= asked) return false;
    message->size += asked - missing;
  }
  return true;
}

bool host_receive(struct message *message) {
  const struct head *head = message_head(message);
  message->size = 0;
  if (!fill(message, sizeof *head)) return false;
  if (head->magic != PROTOCOL_MAGIC || head->body_bytes > MESSAGE_BYTES - sizeof *head) return false;
  return fill(message, sizeof *head + head->body_bytes);
}
