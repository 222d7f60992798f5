/* What the plug-in of test_unload and of windows.c gives. Each gives 0 if all is well. */
#if defined(_WIN32)
#define PLUGIN_FUNCTION __declspec(dllexport)
#else
#define PLUGIN_FUNCTION __attribute__((visibility("default")))
#endif
PLUGIN_FUNCTION int plugin_call_in(void);
PLUGIN_FUNCTION int plugin_use_own(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_use_shared(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_end_shared(void);
PLUGIN_FUNCTION int plugin_use_times(int *counter, int times);
PLUGIN_FUNCTION int plugin_end_times(int *counter, int times);
PLUGIN_FUNCTION int plugin_detach(int *counter, int tasks);
PLUGIN_FUNCTION int plugin_detach_in_task(int *counter, int pools);
PLUGIN_FUNCTION int plugin_time_shared(int *counter);
