/* A stand-in for libnvidia-ml.so.1: answers the calls that dpo-tui makes from a small text file named by $NVML_STANDIN.
 *
 * Lines before the first "gpu": driver TEXT | cuda NUMBER | init CODE. Then, per "gpu":
 *   name TEXT (\xHH escapes) | uuid TEXT | memory TOTAL_MIB FREE_MIB | cc MAJOR MINOR | busy GPU MEM | power MW LIMIT_MW
 *   temperature C | fan PERCENT | clock SM MEM | ecc 0|1 ERRORS | mig 0|1 | instance TOTAL_MIB FREE_MIB UUID
 *   swing PERCENT (utilisation, and power with it, falls by up to so much from one reading to the next)
 *   process PID MIB (-1: unknown) | fail FUNCTION CODE | lost_after CALLS (per-device calls until the GPU is lost)
 *   hang FUNCTION CALLS (the function never returns after so many calls of it)
 * Compile with -DWITHOUT_CLOCKS for a library that lacks nvmlDeviceGetClockInfo.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define INVALID 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT 7
#define LOST 15
#define MIB (1024ULL * 1024ULL)

typedef struct { char function[64]; int code; } fail_t;
typedef struct { unsigned long long total, free; char uuid[96]; } instance_t;
typedef struct {
  char name[128], uuid[96];
  unsigned long long total, free;
  int cc_major, cc_minor, busy, busy_memory, power, power_limit, temperature, fan, clock_sm, clock_memory;
  int ecc, ecc_errors, mig, instance_count, process_count, fail_count;
  int lost_after, calls, swing, readings, answers;
  char hangs[64];
  instance_t instances[8];
  struct { unsigned pid; long long mib; } processes[16];
  fail_t fails[16];
} gpu_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } rates_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;

static gpu_t gpus[16];
static int gpu_count, init_code, cuda_version = 12040;
static char driver[80] = "550.54.14";

static void unescape(char *to, const char *from, size_t size) {
  size_t n = 0;
  while (*from && n + 1 < size) {
    unsigned value;
    if (from[0] == '\\' && from[1] == 'x' && sscanf(from + 2, "%2x", &value) == 1) {
      to[n++] = (char)value;
      from += 4;
    } else {
      to[n++] = *from++;
    }
  }
  to[n] = 0;
}

static void load(void) {
  const char *path = getenv("NVML_STANDIN");
  FILE *file = path ? fopen(path, "r") : NULL;
  char line[512];
  gpu_t *g = NULL;
  gpu_count = 0;
  init_code = path && file ? 0 : 9;
  if (!file) return;
  memset(gpus, 0, sizeof gpus);
  while (fgets(line, sizeof line, file)) {
    char key[32], *rest;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%31s", key) != 1) continue;
    rest = line + strlen(key);
    while (*rest == ' ') rest++;
    if (!strcmp(key, "driver")) snprintf(driver, sizeof driver, "%s", rest);
    else if (!strcmp(key, "cuda")) cuda_version = atoi(rest);
    else if (!strcmp(key, "init")) init_code = atoi(rest);
    else if (!strcmp(key, "gpu")) {
      g = &gpus[gpu_count];
      snprintf(g->uuid, sizeof g->uuid, "GPU-%08d-0000-0000-0000-000000000000", gpu_count);
      g->cc_major = 8; g->cc_minor = 9; g->temperature = 41; g->power = 21000; g->power_limit = 200000;
      g->clock_sm = 2100; g->clock_memory = 10500; g->ecc = -1; g->mig = -1; g->fan = 30; g->lost_after = -1;
      gpu_count++;
    } else if (!g) continue;
    else if (!strcmp(key, "name")) unescape(g->name, rest, sizeof g->name);
    else if (!strcmp(key, "uuid")) snprintf(g->uuid, sizeof g->uuid, "%s", rest);
    else if (!strcmp(key, "memory")) { sscanf(rest, "%llu %llu", &g->total, &g->free); g->total *= MIB; g->free *= MIB; }
    else if (!strcmp(key, "cc")) sscanf(rest, "%d %d", &g->cc_major, &g->cc_minor);
    else if (!strcmp(key, "busy")) sscanf(rest, "%d %d", &g->busy, &g->busy_memory);
    else if (!strcmp(key, "power")) sscanf(rest, "%d %d", &g->power, &g->power_limit);
    else if (!strcmp(key, "temperature")) g->temperature = atoi(rest);
    else if (!strcmp(key, "fan")) g->fan = atoi(rest);
    else if (!strcmp(key, "clock")) sscanf(rest, "%d %d", &g->clock_sm, &g->clock_memory);
    else if (!strcmp(key, "ecc")) sscanf(rest, "%d %d", &g->ecc, &g->ecc_errors);
    else if (!strcmp(key, "mig")) g->mig = atoi(rest);
    else if (!strcmp(key, "instance")) {
      instance_t *i = &g->instances[g->instance_count++];
      sscanf(rest, "%llu %llu %95s", &i->total, &i->free, i->uuid);
      i->total *= MIB; i->free *= MIB;
    } else if (!strcmp(key, "process")) {
      sscanf(rest, "%u %lld", &g->processes[g->process_count].pid, &g->processes[g->process_count].mib);
      g->process_count++;
    } else if (!strcmp(key, "fail")) {
      sscanf(rest, "%63s %d", g->fails[g->fail_count].function, &g->fails[g->fail_count].code);
      g->fail_count++;
    } else if (!strcmp(key, "lost_after")) g->lost_after = atoi(rest);
    else if (!strcmp(key, "hang")) sscanf(rest, "%63s %d", g->hangs, &g->answers);
    else if (!strcmp(key, "swing")) g->swing = atoi(rest);
  }
  fclose(file);
}

/* What a call on this device answers before its own result: a scripted failure, or "lost". */
static int check(gpu_t *g, const char *function) {
  int i;
  if (!strcmp(g->hangs, function) && g->answers-- <= 0) for (;;) pause();
  if (g->lost_after >= 0 && g->calls++ >= g->lost_after) return LOST;
  for (i = 0; i < g->fail_count; i++)
    if (!strcmp(g->fails[i].function, function)) return g->fails[i].code;
  return OK;
}
#define GUARD(device) do { int c_ = check((gpu_t *)(device), __func__); if (c_) return c_; } while (0)

/* A MIG instance's handle points into a GPU's array of instances. */
static instance_t *as_instance(void *device) {
  int i;
  for (i = 0; i < gpu_count; i++)
    if ((char *)device >= (char *)gpus[i].instances && (char *)device < (char *)(gpus[i].instances + 8)) return device;
  return NULL;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; load(); return init_code; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "stand-in error"; }
int nvmlSystemGetDriverVersion(char *to, unsigned size) { snprintf(to, size, "%s", driver); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *to) { *to = cuda_version; return OK; }
int nvmlDeviceGetCount_v2(unsigned *to) { *to = (unsigned)gpu_count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **to) {
  if ((int)index >= gpu_count) return INVALID;
  GUARD(&gpus[index]);
  *to = &gpus[index];
  return OK;
}
int nvmlDeviceGetName(void *d, char *to, unsigned size) { GUARD(d); snprintf(to, size, "%s", ((gpu_t *)d)->name); return OK; }
int nvmlDeviceGetUUID(void *d, char *to, unsigned size) {
  instance_t *i = as_instance(d);
  if (i) { snprintf(to, size, "%s", i->uuid); return OK; }
  GUARD(d);
  snprintf(to, size, "%s", ((gpu_t *)d)->uuid);
  return OK;
}
int nvmlDeviceGetMemoryInfo(void *d, memory_t *to) {
  instance_t *i = as_instance(d);
  if (i) { to->total = i->total; to->free = i->free; to->used = i->total - i->free; return OK; }
  GUARD(d);
  to->total = ((gpu_t *)d)->total; to->free = ((gpu_t *)d)->free; to->used = to->total - to->free;
  return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
  GUARD(d); *major = ((gpu_t *)d)->cc_major; *minor = ((gpu_t *)d)->cc_minor; return OK;
}
/* How far a swinging GPU is below its full load, in percent; another value for each reading of the utilisation. */
static int below(gpu_t *g) { return g->swing ? g->readings * 37 % (g->swing + 1) : 0; }

int nvmlDeviceGetUtilizationRates(void *d, rates_t *to) {
  gpu_t *g = d;
  GUARD(d); g->readings++;
  to->gpu = (unsigned)(g->busy - below(g)); to->memory = (unsigned)g->busy_memory; return OK;
}
int nvmlDeviceGetPowerUsage(void *d, unsigned *to) {
  gpu_t *g = d;
  GUARD(d); *to = (unsigned)(g->power - g->power / 100 * below(g)); return OK;
}
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *to) { GUARD(d); *to = (unsigned)((gpu_t *)d)->power_limit; return OK; }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *to) {
  (void)sensor; GUARD(d); *to = (unsigned)((gpu_t *)d)->temperature; return OK;
}
int nvmlDeviceGetFanSpeed(void *d, unsigned *to) {
  GUARD(d); if (((gpu_t *)d)->fan < 0) return NOT_SUPPORTED; *to = (unsigned)((gpu_t *)d)->fan; return OK;
}
#ifndef WITHOUT_CLOCKS
int nvmlDeviceGetClockInfo(void *d, int type, unsigned *to) {
  GUARD(d); *to = (unsigned)(type == 2 ? ((gpu_t *)d)->clock_memory : ((gpu_t *)d)->clock_sm); return OK;
}
#endif
int nvmlDeviceGetEccMode(void *d, int *now, int *pending) {
  GUARD(d); if (((gpu_t *)d)->ecc < 0) return NOT_SUPPORTED; *now = *pending = ((gpu_t *)d)->ecc; return OK;
}
int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, unsigned long long *to) {
  (void)type; (void)counter; GUARD(d); *to = (unsigned long long)((gpu_t *)d)->ecc_errors; return OK;
}
int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *pending) {
  GUARD(d); if (((gpu_t *)d)->mig < 0) return NOT_SUPPORTED; *now = *pending = (unsigned)((gpu_t *)d)->mig; return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *to) { GUARD(d); *to = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned index, void **to) {
  GUARD(d);
  if ((int)index >= ((gpu_t *)d)->instance_count) return NOT_FOUND;
  *to = &((gpu_t *)d)->instances[index];
  return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, process_t *to) {
  gpu_t *g = d;
  int i;
  GUARD(d);
  if (g->process_count == 0) { *count = 0; return OK; }
  if (!to || (int)*count < g->process_count) { *count = (unsigned)g->process_count; return INSUFFICIENT; }
  for (i = 0; i < g->process_count; i++) {
    memset(&to[i], 0, sizeof to[i]);
    to[i].pid = g->processes[i].pid;
    to[i].used = g->processes[i].mib < 0 ? ~0ULL : (unsigned long long)g->processes[i].mib * MIB;
  }
  *count = (unsigned)g->process_count;
  return OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *count, process_t *to) {
  (void)to; GUARD(d); *count = 0; return OK;
}
