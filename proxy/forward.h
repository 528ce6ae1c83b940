/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
#ifndef FORWARD_H
#define FORWARD_H
/* A client's end-to-end fields as they go upstream (RFC 9110 7.6.1). Pure. */
#include "proxy/conn.h"

/*
 * Lines with CRLF in the request's arena: no hop-by-hop fields, no ranges or
 * conditions (the depot asks for whole objects), user:password of the URL as
 * the Authorization that it means (RFC 9110 11.4, RFC 7617).
 */
struct slice forward_client_fields(struct req *req);

#endif
