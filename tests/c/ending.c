/* Calls at the end of a thread, in a destructor that runs after any destructors of the library's
   would have run. */

#include <forcewire.h>
#include <pthread.h>
#include <stdio.h>

static pthread_key_t key;

static void destroy(void *context)
{
    char text[512];
    (void)context;
    readbuffer(NULL, NULL, NULL);
    printf("%d %s\n", forcewire_error(), forcewire_error_text(text, sizeof text));
}

static void *thread(void *context)
{
    pthread_setspecific(key, context);
    forcewire_error();
    return NULL;
}

int main(void)
{
    pthread_t it;
    forcewire_on_error(FORCEWIRE_CONTINUE);
    pthread_key_create(&key, destroy);
    pthread_create(&it, NULL, thread, &key);
    pthread_join(it, NULL);
    return 0;
}
