// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Whose attempt an answer of ENABLE is about. Attempts that vtdx lets fail have
 * numbers that grow, in the detail of the status: so it shows whether all who
 * waited for one were told the same, and whether somebody was told of an attempt
 * that had ended before they asked.
 */
#include <string.h>

#include "races.h"

struct list {
	const struct answer *answers[MOST_CALLERS * MOST_ANSWERS];
	unsigned int nr;
};

static uint32_t number_of(const struct answer *answer)
{
	return answer->enable.seam_status;
}

static void gather(struct race *race, struct list *list)
{
	for (unsigned int i = 0; i < race->nr_callers; i++)
		for (unsigned int k = 0; k < race->callers[i].nr_answers; k++)
			if (number_of(&race->callers[i].answers[k]))
				list->answers[list->nr++] = &race->callers[i].answers[k];
}

/* The last attempt that somebody knew of before @answer was asked for. */
static uint64_t last_before(const struct list *list, const struct answer *answer, uint64_t floor)
{
	for (unsigned int i = 0; i < list->nr; i++)
		if (list->answers[i]->end_ns < answer->start_ns &&
		    number_of(list->answers[i]) > floor)
			floor = number_of(list->answers[i]);
	return floor;
}

static bool same_outcome(const struct answer *a, const struct answer *b)
{
	const struct tdxhost_enable *x = &a->enable, *y = &b->enable;

	return x->module_status == y->module_status && x->step == y->step &&
	       x->error == y->error && x->code == y->code && x->trap == y->trap &&
	       x->cpu == y->cpu && x->leaf == y->leaf && x->seam_status == y->seam_status;
}

/* EARLIER_FAILURE repeats what an attempt came to, and is not its answer. */
static bool is_own(const struct answer *answer)
{
	return answer->enable.code == TDXHOST_CODE_SEAMCALL;
}

static void check_time(struct race *race, const struct list *list, const struct answer *answer,
		       uint64_t floor)
{
	uint64_t last = last_before(list, answer, floor);

	if (is_own(answer) && number_of(answer) <= last)
		fail(&race->callers[0], "told of attempt %u, asked after attempt %lu had ended",
		     number_of(answer), last);
	if (!is_own(answer) && number_of(answer) < last)
		fail(&race->callers[0], "the last failure is attempt %u, after attempt %lu",
		     number_of(answer), last);
}

/* Whether it tells of an attempt that another caller was told of, in the same way. */
static bool check_shared(struct race *race, const struct list *list, unsigned int i)
{
	for (unsigned int k = 0; k < i; k++) {
		if (number_of(list->answers[k]) != number_of(list->answers[i]) ||
		    !is_own(list->answers[k]))
			continue;
		if (!same_outcome(list->answers[k], list->answers[i]))
			fail(&race->callers[0], "two answers about attempt %u differ",
			     number_of(list->answers[i]));
		return true;
	}
	return false;
}

/* Of one round, with all callers at rest; @floor: the last attempt of the rounds before. */
void check_answers(struct race *race, uint64_t *floor)
{
	static struct list list;
	uint64_t last = *floor;

	list.nr = 0;
	gather(race, &list);
	for (unsigned int i = 0; i < list.nr; i++) {
		check_time(race, &list, list.answers[i], *floor);
		if (number_of(list.answers[i]) > last)
			last = number_of(list.answers[i]);
		if (!is_own(list.answers[i]))
			continue;
		if (check_shared(race, &list, i))
			race->counts.shared++;
		else
			race->counts.attempts++;
	}
	*floor = last;
}
