/* An epoch's order of the training samples: sorted by the words of its stream, ties by sample. */
#pragma once
#include "layers_dense.h"

enum { DIGITS = 3, DIGIT_BITS = 11 };

/* space: 2 * count words of 64 bits. Sorting by digits from the lowest up keeps the order of equals. */
static void draw_order(const uint32_t *key, int32_t count, int32_t *order, uint64_t *space) {
  uint64_t *from = space, *to = space + count;
  uint32_t places[DIGITS][1 << DIGIT_BITS] = {{0}};
  for (int32_t first = 0; first < count; first += 4 * DRAWS) {
    uint32_t block[DRAWS], word[4][DRAWS];
    for (int l = 0; l < DRAWS; l++) block[l] = (uint32_t)(first / 4 + l);
    philox(key, 0, block, word);
    for (int32_t i = first; i < count && i < first + 4 * DRAWS; i++) {
      uint32_t drawn = word[i % 4][(i - first) / 4];
      from[i] = (uint64_t)drawn << 32 | (uint32_t)i;
      for (int d = 0; d < DIGITS; d++) places[d][drawn >> d * DIGIT_BITS & ((1 << DIGIT_BITS) - 1)]++;
    }
  }
  for (int d = 0; d < DIGITS; d++) {
    uint32_t next = 0;
    for (int v = 0; v < 1 << DIGIT_BITS; v++) {
      uint32_t here = places[d][v];
      places[d][v] = next;
      next += here;
    }
    for (int32_t i = 0; i < count; i++)
      to[places[d][from[i] >> (32 + d * DIGIT_BITS) & ((1 << DIGIT_BITS) - 1)]++] = from[i];
    uint64_t *swap = from;
    from = to;
    to = swap;
  }
  for (int32_t i = 0; i < count; i++) order[i] = (int32_t)(from[i] & 0xffffffff);
}
