// Ends of the process by signals that Python cannot handle: its handlers wait for the interpreter lock, or for the
// code that the signal has interrupted.
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstring>

#define INFRS_BASELINE __attribute__((target("no-avx")))  // it runs on every processor

namespace {

constexpr int kWaitMilliseconds = 1000;  // for a reader of standard error

struct Ending {
  char text[2048];  // at most PIPE_BUF, so a pipe with room takes it whole
  size_t size;
  int status;
};

Ending endings[NSIG];

// Calls only functions that are safe in a signal handler.
INFRS_BASELINE void end(int number) {
  const Ending& ending = endings[number];
  pollfd error = {STDERR_FILENO, POLLOUT, 0};
  if (poll(&error, 1, kWaitMilliseconds) == 1) (void)!write(STDERR_FILENO, ending.text, ending.size);
  _exit(ending.status);
}

}  // namespace

// Lets a signal end the process with a status, after a text on standard error. A second call replaces the text.
// Returns 0 if the system refuses.
extern "C" __attribute__((visibility("default"))) INFRS_BASELINE int infrs_end_by_signal(
    int number, int status, const char* text) {
  if (number <= 0 || number >= NSIG) return 0;
  Ending& ending = endings[number];
  ending.size = strnlen(text, sizeof ending.text);
  memcpy(ending.text, text, ending.size);
  ending.status = status;
  struct sigaction action = {};
  action.sa_handler = end;
  return sigaction(number, &action, nullptr) == 0;
}
