/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Record bytes: what was written is read, what was damaged is refused. */
#include "cache/record.h"

#include <check.h>
#include <zlib.h>
#include <stdio.h>
#include <string.h>

Suite *check_record_suite(void);

static uint8_t out[RECORD_MAX_BYTES];
static char text[OBJECT_TEXT_MAX];

static struct object_rec
sample_object(void)
{
	struct object_rec rec = {
		.digest = {1, 2, 3},
		.size_bytes = UINT64_C(9) << 30,
		.stored_at_ms = INT64_C(1700000000123),
		.checked_at_ms = INT64_C(1700000009456),
		.class = APTFILE_BYHASH,
		.from_credentials = true,
		.terms = {.checked_at_s = 11, .date_s = 12, .age_s = 13,
		    .lifetime_s = INT64_C(1) << 40, .last_modified_s = INT64_MIN,
		    .stale_if_error_s = -1, .no_cache = true, .must_revalidate = true},
		.url = SLICE("https://repo.example/x"),
		.etag = SLICE_NONE,
		.fields = SLICE("A: b\r\nC: d\r\n"),
	};

	return rec;
}

START_TEST(test_object)
{
	struct object_rec rec = sample_object(), got;
	struct key key = {.b = {7}}, other = {.b = {8}};
	uint64_t born_seq = 0;
	size_t n = record_object_encode(out, &key, &rec, 42);

	ck_assert_uint_eq(n, RECORD_OBJECT_BYTES + rec.url.n + rec.fields.n);
	ck_assert(record_object_decode(&got, &born_seq, &key, out, n));
	ck_assert_uint_eq(born_seq, 42);
	ck_assert_mem_eq(got.digest, rec.digest, 32);
	ck_assert_uint_eq(got.size_bytes, rec.size_bytes);
	ck_assert_int_eq(got.stored_at_ms, rec.stored_at_ms);
	ck_assert_int_eq(got.checked_at_ms, rec.checked_at_ms);
	ck_assert_int_eq(got.class, APTFILE_BYHASH);
	ck_assert(got.from_credentials);
	ck_assert(slice_eq(got.url, rec.url));
	ck_assert_uint_eq(got.etag.n, 0);
	ck_assert(slice_eq(got.fields, rec.fields));
	ck_assert_int_eq(got.terms.checked_at_s, 11);
	ck_assert_int_eq(got.terms.date_s, 12);
	ck_assert_int_eq(got.terms.age_s, 13);
	ck_assert_int_eq(got.terms.lifetime_s, INT32_MAX);	/* 68 years are for ever */
	ck_assert_int_eq(got.terms.last_modified_s, INT64_MIN);
	ck_assert_int_eq(got.terms.stale_if_error_s, -1);
	ck_assert(got.terms.no_cache && got.terms.must_revalidate);
	ck_assert(!record_object_decode(&got, &born_seq, &other, out, n));
	record_text_keep((struct slice *[]){&got.url, &got.etag, &got.fields}, 3, text);
	memset(out, 0, sizeof(out));
	ck_assert(slice_eq(got.url, rec.url));
	ck_assert(slice_eq(got.fields, rec.fields));
}
END_TEST

/* The longest texts fit, one byte more does not. */
START_TEST(test_text_limits)
{
	static char url[8192], etag[512], fields[8192 + 1];
	struct object_rec rec = sample_object(), got;
	struct key key = {.b = {7}};
	uint64_t born_seq;
	size_t n;

	memset(url, 'u', sizeof(url));
	memset(etag, 'e', sizeof(etag));
	memset(fields, 'f', sizeof(fields));
	rec.url = (struct slice){url, sizeof(url)};
	rec.etag = (struct slice){etag, sizeof(etag)};
	rec.fields = (struct slice){fields, 8192};
	n = record_object_encode(out, &key, &rec, 1);
	ck_assert_uint_eq(n, RECORD_MAX_BYTES);
	ck_assert(record_object_decode(&got, &born_seq, &key, out, n));
	ck_assert(slice_eq(got.fields, rec.fields));
	record_text_keep((struct slice *[]){&got.url, &got.etag, &got.fields}, 3, text);
	ck_assert(slice_eq(got.url, rec.url));
	rec.fields.n++;
	ck_assert_uint_eq(record_object_encode(out, &key, &rec, 1), 0);
	rec.fields.n = SIZE_MAX;
	ck_assert_uint_eq(record_object_encode(out, &key, &rec, 1), 0);
}
END_TEST

START_TEST(test_blob_partial_mark_state)
{
	struct record_blob blob = {.pub = {.size_bytes = 5, .mtime_ns = 6, .stored_at_s = 7,
		.used_at_s = 8, .refs_n = 9, .suspect = true, .from = {.way = PROVENANCE_PARENT,
		.proof = PROVENANCE_LISTED, .address = {1, 2}, .port = 443}},
		.born_seq = 10, .seq = 11}, blob_got;
	struct partial_rec partial = {.total_bytes = -1, .started_at_s = 3, .last_modified_s = 4,
		.url = SLICE("u"), .etag = SLICE("e"), .fields = SLICE("f")}, partial_got;
	struct record_state st = {.seq = 1, .synced_seq = 2, .blobs_n = 3, .blob_bytes = 4,
		.rebuild = true, .ranges_n = 2, .ranges = {{1, 2}, {3, 4}}}, st_got;
	uint8_t digest[32] = {5}, got[32], mark_key[RECORD_MARK_KEY_BYTES];
	struct key key = {.b = {6}};
	size_t n;

	n = record_blob_encode(out, digest, &blob);
	ck_assert_uint_eq(n, RECORD_BLOB_BYTES);
	ck_assert(record_blob_decode(&blob_got, digest, out, n));
	ck_assert_uint_eq(blob_got.pub.size_bytes, 5);
	ck_assert_int_eq(blob_got.pub.mtime_ns, 6);
	ck_assert_int_eq(blob_got.pub.stored_at_s, 7);
	ck_assert_int_eq(blob_got.pub.used_at_s, 8);
	ck_assert_uint_eq(blob_got.pub.refs_n, 9);
	ck_assert(blob_got.pub.suspect);
	ck_assert_uint_eq(blob_got.born_seq, 10);
	ck_assert_uint_eq(blob_got.seq, 11);
	ck_assert_int_eq(blob_got.pub.from.way, PROVENANCE_PARENT);
	ck_assert_int_eq(blob_got.pub.from.proof, PROVENANCE_LISTED);
	ck_assert_uint_eq(blob_got.pub.from.port, 443);
	ck_assert_mem_eq(blob_got.pub.from.address, blob.pub.from.address, 16);

	n = record_partial_encode(out, &key, &partial);
	ck_assert(record_partial_decode(&partial_got, &key, out, n));
	ck_assert_int_eq(partial_got.total_bytes, -1);
	ck_assert(slice_eq(partial_got.url, partial.url));
	ck_assert(slice_eq(partial_got.etag, partial.etag));
	ck_assert(slice_eq(partial_got.fields, partial.fields));

	record_mark_key(mark_key, &key, 0x01020304);
	ck_assert_mem_eq(mark_key + KEY_BYTES, "\1\2\3\4", 4);
	n = record_mark_encode(out, mark_key, digest);
	ck_assert(record_mark_decode(got, mark_key, out, n));
	ck_assert_mem_eq(got, digest, 32);
	mark_key[35]++;
	ck_assert(!record_mark_decode(got, mark_key, out, n));

	memset(st.boot_id, 'b', sizeof(st.boot_id));
	n = record_state_encode(out, &st);
	ck_assert(record_state_decode(&st_got, out, n));
	ck_assert_uint_eq(st_got.synced_seq, 2);
	ck_assert_uint_eq(st_got.ranges[1].upto, 4);
	ck_assert(st_got.rebuild);
	ck_assert_mem_eq(st_got.boot_id, st.boot_id, sizeof(st.boot_id));
}
END_TEST

/* Blobs of the first version ended before their provenance: as good as ever, from nobody knows where. */
START_TEST(test_blob_of_version_1)
{
	const struct record_blob blob = {.pub = {.size_bytes = 5, .refs_n = 9, .from = {
	    .way = PROVENANCE_ORIGIN, .port = 443}}, .seq = 11};
	struct record_blob got;
	uint8_t digest[32] = {5};
	uint32_t crc;

	ck_assert_uint_gt(record_blob_encode(out, digest, &blob), 64);
	out[4] = 1;
	crc = (uint32_t)crc32(crc32(0, digest, sizeof(digest)), out + 4, 60);
	memcpy(out, &crc, 4);
	ck_assert(record_blob_decode(&got, digest, out, 64));
	ck_assert_uint_eq(got.pub.size_bytes, 5);
	ck_assert_uint_eq(got.pub.refs_n, 9);
	ck_assert_uint_eq(got.seq, 11);
	ck_assert_int_eq(got.pub.from.way, PROVENANCE_UNKNOWN);
	ck_assert_uint_eq(got.pub.from.port, 0);
	/* Neither version has the other's length, and there is no third. */
	ck_assert(!record_blob_decode(&got, digest, out, 88));
	out[4] = 2;
	crc = (uint32_t)crc32(crc32(0, digest, sizeof(digest)), out + 4, 60);
	memcpy(out, &crc, 4);
	ck_assert(!record_blob_decode(&got, digest, out, 64));
	(void)record_blob_encode(out, digest, &blob);
	out[4] = 3;
	crc = (uint32_t)crc32(crc32(0, digest, sizeof(digest)), out + 4, 84);
	memcpy(out, &crc, 4);
	ck_assert(!record_blob_decode(&got, digest, out, 88));
}
END_TEST

/* No bit of a record can change, and no byte can be missing or too many. */
START_TEST(test_every_bit_counts)
{
	struct object_rec rec = sample_object(), got;
	struct key key = {.b = {7}};
	uint64_t born_seq;
	size_t n = record_object_encode(out, &key, &rec, 42);

	for (size_t bit = 0; bit < 8 * n; bit++) {
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(!record_object_decode(&got, &born_seq, &key, out, n),
		    "bit %zu", bit);
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t short_n = 0; short_n < n; short_n++)
		ck_assert(!record_object_decode(&got, &born_seq, &key, out, short_n));
	ck_assert(!record_object_decode(&got, &born_seq, &key, out, n + 1));
	ck_assert(record_object_decode(&got, &born_seq, &key, out, n));
}
END_TEST

Suite *
check_record_suite(void)
{
	Suite *s = suite_create("record");
	TCase *tc = tcase_create("record");

	tcase_add_test(tc, test_object);
	tcase_add_test(tc, test_text_limits);
	tcase_add_test(tc, test_blob_partial_mark_state);
	tcase_add_test(tc, test_blob_of_version_1);
	tcase_add_test(tc, test_every_bit_counts);
	suite_add_tcase(s, tc);
	return s;
}
