/* One network trained by a program for another processor: IN OUT. emulated_arm.py writes the one and reads the other. */
#include <stdio.h>
#include <stdlib.h>

#include "exact.c"

static void *next_section(FILE *in) {
  int64_t bytes;
  if (fread(&bytes, sizeof bytes, 1, in) != 1) exit(2);
  void *read = aligned_alloc(64, (bytes + 127) / 64 * 64);
  if (fread(read, 1, bytes, in) != (size_t)bytes) exit(3);
  return read;
}

int main(int argc, char **argv) {
  FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
  const int32_t *numbers = next_section(in); /* samples, batch, steps */
  Program *program = next_section(in);
  program->layer = next_section(in);
  Samples samples = {next_section(in), next_section(in)};
  Optimizer *optimizer = next_section(in);
  Network *network = next_section(in);
  int32_t count = numbers[0], batch = numbers[1], steps = numbers[2], next = 0;
  network->ready = 0;
  network->sizes = next_section(in);
  network->keys = next_section(in);
  network->epochs = next_section(in);
  network->params = next_section(in);
  network->moments = next_section(in);
  network->kept = malloc(sizeof(int32_t) * count);
  network->losses = malloc(sizeof(float) * steps);
  exact_train(program, &samples, count, batch, steps, optimizer, network, 1, &next, malloc(sizeof(int32_t) * steps * batch),
              malloc(2 * sizeof(uint64_t) * count), malloc(sizeof(float) * exact_scratch_floats(program)));
  fwrite(network->params, sizeof(float), program->parameters, out);
  fwrite(network->moments, sizeof(float), 2 * program->parameters, out);
  fwrite(network->losses, sizeof(float), steps, out);
  return fclose(out) || argc != 3;
}
