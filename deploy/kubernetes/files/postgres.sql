-- Runs once, when the data folder is empty. The passwords come by the environment: nobody reads them in a process list.
\getenv autoloader_password POSTGRES_AUTOLOADER_PASSWORD
\getenv prefect_password POSTGRES_PREFECT_PASSWORD
-- CREATEROLE, because `autoloader migrate` makes the two roles that the application acts as.
CREATE ROLE autoloader LOGIN CREATEROLE PASSWORD :'autoloader_password';
CREATE DATABASE autoloader OWNER autoloader;
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE DATABASE prefect OWNER prefect;
REVOKE CONNECT ON DATABASE autoloader, prefect FROM PUBLIC;
