/* What the plug-in of test_unload gives. Each gives 0 if all is well. */
#define PLUGIN_FUNCTION __attribute__((visibility("default")))
PLUGIN_FUNCTION int plugin_call_in(void);
PLUGIN_FUNCTION int plugin_use_own(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_use_shared(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_use_times(int *counter, int times);
PLUGIN_FUNCTION int plugin_detach(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_detach_in_task(int *counter, int pools);
PLUGIN_FUNCTION int plugin_time_shared(int *counter);
