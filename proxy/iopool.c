/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* A queue, a few threads; see iopool.h. */
#include "proxy/iopool.h"

#include <pthread.h>
#include <stdbool.h>

#include "include/counter.h"

#define IOPOOL_MAGIC 0x10900001u

struct iopool {
	uint32_t magic;
	pthread_mutex_t lock;
	pthread_cond_t news;
	struct iojob *head, **tail;
	bool stop;
	unsigned threads_n;
	pthread_t threads[];
};

/* One thread: takes jobs in order until told to stop and none is left. */
static void *
iopool_main(void *arg)
{
	struct iopool *p = arg;
	struct iojob *job;

	(void)pthread_setname_np(pthread_self(), "iopool");
	AZ(pthread_mutex_lock(&p->lock));
	for (;;) {
		job = p->head;
		if (job == NULL) {
			if (p->stop)
				break;
			AZ(pthread_cond_wait(&p->news, &p->lock));
			continue;
		}
		p->head = job->next;
		if (p->head == NULL)
			p->tail = &p->head;
		AZ(pthread_mutex_unlock(&p->lock));
		job->run(job);
		mailbox_post(job->home, &job->mail);
		AZ(pthread_mutex_lock(&p->lock));
	}
	AZ(pthread_mutex_unlock(&p->lock));
	return NULL;
}

struct iopool *
iopool_start(unsigned threads_n)
{
	struct iopool *p;
	unsigned i;

	p = calloc(1, sizeof(*p) + threads_n * sizeof(p->threads[0]));
	if (p == NULL)
		return NULL;
	p->magic = IOPOOL_MAGIC;
	p->tail = &p->head;
	AZ(pthread_mutex_init(&p->lock, NULL));
	AZ(pthread_cond_init(&p->news, NULL));
	for (i = 0; i < threads_n; i++, p->threads_n++)
		if (pthread_create(&p->threads[i], NULL, iopool_main, p) != 0)
			break;
	if (p->threads_n == 0)
		iopool_stop(&p);
	return p;
}

void
iopool_stop(struct iopool **p_p)
{
	struct iopool *p = *p_p;
	unsigned i;

	*p_p = NULL;
	if (p == NULL)
		return;
	CHECK_OBJ(p, IOPOOL_MAGIC);
	AZ(pthread_mutex_lock(&p->lock));
	p->stop = true;
	AZ(pthread_cond_broadcast(&p->news));
	AZ(pthread_mutex_unlock(&p->lock));
	for (i = 0; i < p->threads_n; i++)
		AZ(pthread_join(p->threads[i], NULL));
	AZ(pthread_mutex_destroy(&p->lock));
	AZ(pthread_cond_destroy(&p->news));
	OBJ_FREE(p);
}

void
iopool_submit(struct iopool *p, struct iojob *job)
{
	CHECK_OBJ(p, IOPOOL_MAGIC);
	COUNT(disk_waits_total);
	job->next = NULL;
	AZ(pthread_mutex_lock(&p->lock));
	*p->tail = job;
	p->tail = &job->next;
	AZ(pthread_cond_signal(&p->news));
	AZ(pthread_mutex_unlock(&p->lock));
}
